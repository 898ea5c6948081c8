"""The training loop from outside: reference losses, exact resuming, two processes as one, and errors."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import alis
from alis import metrics
from alis.errors import ConfigError, DataError, InputError, TrainingDiverged
from alis.training import run_folder, state
from alis.training.launch import launch
from alis.training.loop import train
from alis.training.monitor import write_run_json
from tests.alis import sets
from tests.alis.training.runs import PUBLISHED, ROOT, flags, records, small, tensors


def test_three_steps_give_the_reference_losses(data: str, tmp_path: Path) -> None:
    """Recorded when losses, seeds and the order of random draws had been verified; they may change only with those."""
    train(small(**PUBLISHED, run__kimg=0.024, run__tick_kimg=0.008), data, tmp_path, device="cpu")
    found = [(r["loss_g"], r["loss_d"], r["sign_real"]) for r in records(tmp_path)]
    assert found == [pytest.approx(step, rel=1e-3, abs=1e-4) for step in GOLDEN]
    first = records(tmp_path)[0]
    assert (first["path_penalty"], first["path_length"], first["r1"]) == pytest.approx(GOLDEN_LAZY, rel=1e-3)
    assert "r1" not in records(tmp_path)[1]


GOLDEN = [(0.62568, 2.270635, 0.25), (0.639198, 1.599305, 1.0), (0.590449, 1.756787, 0.75)]
GOLDEN_LAZY = (1.273206, 0.923601, 0.005105)


def test_resuming_equals_not_stopping_bit_for_bit(data: str, finished: Path, tmp_path: Path) -> None:
    changes = {"augment__kind": "ada", "augment__p": 0.3, "augment__speed_kimg": 1}
    train(small(**changes, run__kimg=0.024), data, tmp_path, device="cpu")
    train(small(**changes), data, tmp_path, device="cpu")
    whole, parts = (tensors(run / "snapshots" / "000000048") for run in (finished, tmp_path))
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert len([name for name in whole if name.startswith("training.")]) > 50
    assert float(whole["training.augment_p"]) != 0.3
    assert [r["images"] for r in records(tmp_path)] == [16, 24, 32, 48]


def test_a_run_records_its_settings_and_its_snapshots_are_models(finished: Path, data: str) -> None:
    told = json.loads((finished / "run.json").read_text())
    assert told["config"]["loss"]["r1_gamma"] == 1.0
    assert told["config"]["optim"]["batch"] == 8
    assert told["data"]["num_images"] == 64
    assert {"python", "torch", "alis"} <= told["versions"].keys()
    assert [r["images"] for r in records(finished)] == [16, 32, 48]
    assert {"s_per_kimg", "wait_share", "left_s", "memory_mb", "loss_g", "loss_d"} <= records(finished)[-1].keys()
    strips = records(finished, "seam")
    assert [r["images"] for r in strips] == [16, 32, 48]
    assert all(0.5 < r["seam"] < 1.5 and 0 < r["repetition"] < 1 for r in strips)
    snapshot = finished / "snapshots" / "000000048"
    assert (snapshot / "frames.png").stat().st_size > 500
    assert (snapshot / "strip.png").stat().st_size > 500
    generator = alis.load(finished)
    codes = generator.map(torch.randn(3, 8)).chunk(3)
    assert generator(*codes, 0).shape == (1, 3, 16, 16)
    assert not list(finished.glob(".*.part"))


def test_a_rotten_run_json_is_replaced_and_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    about = {"address": "a", "num_images": 4, "fingerprint": "f"}
    for _ in range(2):
        write_run_json(tmp_path, small(), about, 0)
    path = tmp_path / "run.json"
    assert len(json.loads(path.read_text())["starts"]) == 2
    rotten = path.read_text().replace('"num_images": 4', '"num_images": 6')
    path.write_text(rotten)
    write_run_json(tmp_path, small(), about, 0)
    assert len(json.loads(path.read_text())["starts"]) == 1
    assert (tmp_path / "run.json.damaged").read_text() == rotten
    assert "run.json: was damaged (its checksum is wrong" in caplog.text


def by_two(data: str, out: Path, **changes: object) -> None:
    """Train with two processes of one microbatch each (gloo) until the run's end."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "alis", "train"]
    command = [*flags(optim__micro=4, **changes), "--data", data, "--device", "cpu", "--config", "tiny"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *launcher, *command, "--out", str(out)]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def by_one(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that accumulates two microbatches."""
    run = tmp_path_factory.mktemp("runs") / "one"
    train(small(optim__micro=4), data, run, device="cpu")
    return run


def assert_alike(one: Path, other: Path, **tolerance: float) -> None:
    a, b = (tensors(run / "snapshots" / "000000048") for run in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.timeout(600)
def test_two_processes_equal_one_up_to_rounding(data: str, by_one: Path, tmp_path: Path) -> None:
    by_two(data, tmp_path)
    assert_alike(by_one, tmp_path, rtol=1e-3, atol=2e-4)
    for x, y in zip(records(by_one), records(tmp_path), strict=True):
        assert (x["loss_g"], x["loss_d"]) == pytest.approx((y["loss_g"], y["loss_d"]), rel=1e-4)


@pytest.mark.timeout(600)
def test_a_run_resumes_with_another_number_of_processes(data: str, by_one: Path, tmp_path: Path) -> None:
    """One process, then two, then one: the same result and the same images as with one process only."""
    train(small(optim__micro=4, run__kimg=0.016), data, tmp_path, device="cpu")
    by_two(data, tmp_path, run__kimg=0.032)
    train(small(optim__micro=4), data, tmp_path, device="cpu")
    assert [each["images"] for each in records(tmp_path)] == [16, 32, 48]
    assert_alike(by_one, tmp_path, rtol=1e-3, atol=1e-3)
    for x, y in zip(records(by_one), records(tmp_path), strict=True):
        assert (x["loss_g"], x["loss_d"]) == pytest.approx((y["loss_g"], y["loss_d"]), rel=1e-3)


def test_a_second_run_in_the_same_folder_is_refused(data: str, tmp_path: Path) -> None:
    with (
        run_folder.locked(tmp_path),
        pytest.raises(InputError, match=f"process {os.getpid()} trains there") as caught,
    ):
        train(small(), data, tmp_path, device="cpu")
    assert "another --out" in str(caught.value.hint)
    assert not (tmp_path / "snapshots").exists()
    train(small(run__kimg=0.008), data, tmp_path, device="cpu")
    assert (tmp_path / "snapshots" / "000000008").is_dir()


@pytest.mark.parametrize(
    ("sign", "code", "said"),
    [
        (signal.SIGTERM, 0, "stopped after"),
        (signal.SIGUSR1, 0, "run the same command again to continue"),
        (signal.SIGINT, 130, "stopped; run the same command again"),
    ],
)
def test_a_stop_signal_saves_a_snapshot_first(
    sign: signal.Signals, code: int, said: str, data: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "alis", "train", "--data", data, "--config", "tiny", "--out", str(tmp_path)]
    command += [*flags(run__kimg=1000, run__snapshot_ticks=10_000), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("kimg"):
                process.send_signal(sign)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=120) == code, rest
    assert "Traceback" not in rest
    assert said in rest
    snapshot = run_folder.newest(tmp_path)
    assert snapshot is not None
    assert json.loads((snapshot / state.PROGRESS).read_text())["images"] == int(snapshot.name) > 0


def test_a_metric_that_cannot_be_measured_is_an_error_before_the_first_step(data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="no features called 'incepton'"):
        launch(data, small(run__metric="fid", run__features="incepton"), out, resume="auto", device="cpu", is_dry=False)
    assert not out.exists()


def test_nan_stops_the_run_and_names_the_last_good_state(data: str, tmp_path: Path) -> None:
    train(small(run__kimg=0.016), data, tmp_path, device="cpu")
    (tmp_path / "snapshots" / "000000016" / "training.safetensors").rename(tmp_path / "kept")
    with pytest.raises(InputError, match="can't be resumed"):
        train(small(), data, tmp_path, device="cpu")
    (tmp_path / "kept").rename(tmp_path / "snapshots" / "000000016" / "training.safetensors")
    with pytest.raises(TrainingDiverged, match=r"nan.*000000016"):
        train(small(optim__lr_g=1e38), data, tmp_path, device="cpu")
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["000000016"]


def test_a_run_within_its_time_limit_finishes(data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The time limit counts from the start of the run, not of the machine."""
    spare = time.monotonic() / 60 + 1
    with caplog.at_level(logging.INFO, "alis"):
        assert train(small(run__minutes=spare), data, tmp_path, device="cpu").name == "000000048"
    assert "the time is over" not in caplog.text


def test_a_run_at_its_time_limit_saves_and_exits(data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small(run__kimg=1000, run__minutes=1e-6, run__snapshot_ticks=10_000)
    with caplog.at_level(logging.INFO, "alis"):
        last = train(config, data, tmp_path, device="cpu")
    assert last.name == "000000008"
    assert "the time is over after 8 images; run the same command again to continue" in caplog.text
    assert train(config, data, tmp_path, device="cpu").name == "000000016"


def test_a_metric_sees_pictures_as_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide pictures, of which training cuts random squares: the metric's reference uses such squares too."""
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path / "cache"))

    def wide(number: int, size: int) -> bytes:
        pixels = np.full((size, 4 * size, 3), 8 * number % 256, np.uint8)
        pixels[:, 2 * size :] = 255
        return sets.encoded(pixels)

    data, run = str(sets.write(tmp_path / "wide", 32, paint=wide)), tmp_path / "run"
    config = small(run__kimg=0.008, data__fit="crop", run__metric="fid", run__metric_images=8, run__features="random")
    launch(data, config, run, resume="auto", device="cpu", is_dry=False)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (found,) = [line["fid"] for line in lines if "fid" in line]
    by_fit = {
        fit: metrics.measure(
            alis.load(run), data, metrics.EvaluationPlan(("fid",), num=8, features="random", fit=fit)
        ).figures["fid"]
        for fit in ("crop", "resize")
    }
    assert found == pytest.approx(by_fit["crop"], rel=1e-4)
    assert abs(by_fit["resize"] - found) > 0.01 * found


def test_too_few_images_and_unreachable_data(data: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="64 images, fewer than one batch of 128"):
        train(small(optim__batch=128), data, tmp_path, device="cpu")
    with pytest.raises(InputError, match="no Parquet files"):
        train(small(), str(tmp_path / "none"), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="not a multiple"):
        train(small(optim__batch=8, optim__micro=3), data, tmp_path, device="cpu")


def test_unreachable_s3_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(DataError, match="s3://bucket/set: can't be reached"):
        train(small(), "s3://bucket/set", tmp_path, device="cpu")
