"""The loop from the outside: golden losses, exact resuming, two processes as one, and everything that goes wrong."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

import alis
from alis import metrics
from alis.errors import ConfigError, DataError, InputError, RunError, TrainingDiverged
from alis.training import folder, recipe, state
from alis.training.launch import launch
from alis.training.loop import train
from alis.training.recipe import TrainConfig
from tests.alis import sets
from tests.alis.disk import files_up_to

ROOT = Path(__file__).parents[3]
ADAM = ("step", "exp_avg", "exp_avg_sq")
SMALL: dict[str, object] = {
    "model.resolution": 16,
    "model.channel_base": 128,
    "model.channel_max": 8,
    "model.z_dim": 8,
    "model.w_dim": 8,
    "optim.batch": 8,
    "loss.shift_ramp_kimg": 0,
    "run.kimg": 0.048,
    "run.tick_kimg": 0.016,
    "run.snapshot_ticks": 1,
    "run.keep": 99,
    "loss.r1_gamma": 1.0,
    "loss.pl_weight": 2.0,
    "loss.style_mixing": 0.9,
    "optim.lr_g": 0.0025,
    "ema.half_life_kimg": 8.0,
    "data.threads": 1,
}


PUBLISHED: dict[str, object] = {
    "model__padding": "zeros",
    "model__local_latents": 0.0,
    "model__start": "published",
    "loss__frames_at": "patch",
}


def small(**changes: object) -> TrainConfig:
    return recipe.read("tiny", {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}})


def flags(**changes: object) -> list[str]:
    table = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [part for key, value in table.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def tensors(snapshot: Path) -> dict[str, torch.Tensor]:
    return {f"{path.stem}.{k}": v for path in snapshot.glob("*.safetensors") for k, v in load_file(path).items()}


def records(run: Path, having: str = "loss_g") -> list[dict]:
    """Lines of metrics.jsonl that hold a value: those of ticks, or of snapshots."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if having in line]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 64, size=16, per_file=64, paint=sets.scenery))


@pytest.fixture(scope="module")
def finished(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with augmentation, snapshots after every second step."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(small(augment__kind="ada", augment__p=0.3, augment__speed_kimg=1), data, run, device="cpu")
    return run


def test_three_steps_give_the_golden_losses(data: str, tmp_path: Path) -> None:
    """Written down when the losses, the seeds and the order of draws were checked; they change only with those."""
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


def test_a_run_explains_itself_and_its_snapshots_are_models(finished: Path, data: str) -> None:
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


@pytest.mark.timeout(600)
def test_two_processes_equal_one_but_for_rounding(data: str, tmp_path: Path) -> None:
    """One process that accumulates two microbatches, and two processes with one each (gloo)."""
    command = [*flags(optim__micro=4), "--data", data, "--device", "cpu"]
    one = [sys.executable, "-m", "alis", "train", *command, "--config", "tiny", "--out", str(tmp_path / "one")]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "alis"]
    two = [sys.executable, *launcher, "train", *command, "--config", "tiny", "--out", str(tmp_path / "two")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for line in (one, two):
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    a, b = (tensors(tmp_path / name / "snapshots" / "000000048") for name in ("one", "two"))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    for x, y in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert (x["loss_g"], x["loss_d"]) == pytest.approx((y["loss_g"], y["loss_d"]), rel=1e-4)


def test_two_runs_in_one_folder_are_one_too_many(data: str, tmp_path: Path) -> None:
    with (
        folder.held(tmp_path),
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
        (signal.SIGTERM, 0, "told to stop after"),
        (signal.SIGUSR1, 0, "run the same command again to go on"),
        (signal.SIGINT, 130, "stopped; run the same command again to go on"),
    ],
)
def test_told_to_stop_it_saves_first(sign: signal.Signals, code: int, said: str, data: str, tmp_path: Path) -> None:
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
    snapshot = folder.newest(tmp_path)
    assert snapshot is not None
    assert json.loads((snapshot / state.PROGRESS).read_text())["images"] == int(snapshot.name) > 0


def test_a_metric_that_cannot_be_measured_is_said_before_the_first_step(data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="no features called 'incepton'"):
        launch(data, small(run__metric="fid", run__features="incepton"), out, resume="auto", device="cpu", is_dry=False)
    assert not out.exists()


def test_a_full_disk_costs_the_snapshot_not_the_run(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In mid-run it is tried again at the next tick, and going on loses nothing."""
    run, config = tmp_path / "run", small(run__tick_kimg=0.008, run__snapshot_ticks=2)
    measured = []

    def measure(generator: alis.Generator) -> tuple[str, float]:
        """Asked after 16 images, when the disk has been full; it has room again from now on."""
        measured.append(1)
        disk.close()
        return "fid", 1.0

    with contextlib.ExitStack() as disk, caplog.at_level(logging.WARNING, "alis"):
        disk.enter_context(files_up_to(12_000))
        train(config, data, run, device="cpu", measure=measure)
    assert caplog.text.count("is not saved") == 1
    assert [path.name for path in sorted((run / "snapshots").iterdir())] == ["000000024", "000000032", "000000048"]
    assert len(measured) == 4
    assert not list(run.glob(".*.part"))


@pytest.mark.parametrize("has_room", [True, False])
def test_a_run_without_its_result_does_not_end_well(
    has_room: bool, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for the networks but not for the optimisers, they are kept; with none for either, that is said."""
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    run, config = tmp_path / "run", small(run__kimg=0.016)
    train(small(run__kimg=0.008), data, tmp_path / "sizes", device="cpu")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "sizes" / "snapshots" / "000000008").iterdir()}
    room = sizes["training.safetensors"] - 1 if has_room else sizes["model.safetensors"] - 1
    with files_up_to(room), pytest.raises(RunError, match="the state after 16 images is not saved") as caught:
        train(config, data, run, device="cpu")
    assert caught.value.exit_code == 1
    assert not list(run.glob("snapshots/*"))
    rescued = [path.parent for path in tmp_path.rglob("config.json") if "sizes" not in path.parts]
    if not has_room:
        assert rescued == []
        assert "nor anywhere else" in caught.value.message
        assert "the run has no snapshot" in caught.value.message
        return
    assert f"its networks, without optimisers, are in {rescued[0]}" in caught.value.message
    train(config, data, tmp_path / "other", device="cpu", resume=str(rescued[0]))


def test_what_was_trained_is_kept_where_there_is_room(
    data: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's folder can't be written any more; the whole state goes to the cache and can be gone on from."""
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path / "cache"))
    run, changes = tmp_path / "run", {"augment__kind": "ada", "augment__p": 0.3, "augment__speed_kimg": 1}
    run.mkdir()
    (run / "snapshots").write_text("a file where the folder should be")
    (run / "rescued").write_text("here too")
    with pytest.raises(RunError, match=r"all of it is in .*cache.rescued.run-000000024; .*--resume"):
        train(small(**changes, run__kimg=0.024), data, run, device="cpu")
    saved = tmp_path / "cache" / "rescued" / "run-000000024"
    train(small(**changes), data, tmp_path / "new", device="cpu", resume=str(saved))
    whole, parts = (tensors(one / "snapshots" / "000000048") for one in (finished, tmp_path / "new"))
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []


def test_a_model_with_its_discriminator_is_a_beginning(
    data: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fine-tuning, as from an imported checkpoint; the same command again goes on and does not begin again."""
    model, run = tmp_path / "model", tmp_path / "run"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "generator.safetensors", "discriminator.safetensors"):
        shutil.copy(finished / "snapshots" / "000000048" / name, model)
    train(small(run__kimg=0.016, optim__lr_g=1e-9, optim__lr_d=1e-9), data, run, resume=str(model), device="cpu")
    begun, was = tensors(run / "snapshots" / "000000016"), tensors(finished / "snapshots" / "000000048")
    for name in ("generator.synthesis.b16.conv1.weight", "discriminator.b4.fc.weight"):
        torch.testing.assert_close(begun[name], was[name], rtol=1e-5, atol=1e-6)
    with caplog.at_level(logging.INFO, "alis"):
        train(small(run__kimg=0.032), data, run, resume=str(model), device="cpu")
    assert "does not start from" in caplog.text
    assert [r["images"] for r in records(run)] == [16, 32]
    (model / "discriminator.safetensors").unlink()
    with pytest.raises(InputError, match="a model with its discriminator"):
        train(small(), data, tmp_path / "other", resume=str(model), device="cpu")
    (run / "snapshots" / "000000032" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match="remove that folder: the run goes on from the snapshot before it"):
        train(small(), data, run, device="cpu")


def test_nan_stops_the_run_and_names_the_last_good_state(data: str, tmp_path: Path) -> None:
    train(small(run__kimg=0.016), data, tmp_path, device="cpu")
    (tmp_path / "snapshots" / "000000016" / "training.safetensors").rename(tmp_path / "kept")
    with pytest.raises(InputError, match="can't go on from it"):
        train(small(), data, tmp_path, device="cpu")
    (tmp_path / "kept").rename(tmp_path / "snapshots" / "000000016" / "training.safetensors")
    with pytest.raises(TrainingDiverged, match=r"nan.*000000016"):
        train(small(optim__lr_g=1e38), data, tmp_path, device="cpu")
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["000000016"]


def test_resuming_with_other_networks_shows_the_difference(data: str, finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"channel_max = 8 in the run, 16 asked"):
        train(small(model__channel_max=16), data, finished, device="cpu")
    with pytest.raises(InputError, match="already holds 000000048"):
        train(small(), data, finished, device="cpu", resume="never")


def test_snapshots_come_at_every_crossing_of_the_interval(data: str, tmp_path: Path) -> None:
    """A batch of 8 meets multiples of 12 only at every second one; the interval counts all the same."""
    train(small(run__tick_kimg=0.012), data, tmp_path, device="cpu")
    assert [r["images"] for r in records(tmp_path)] == [16, 24, 40, 48]
    assert [path.name for path in folder.snapshots(tmp_path)] == ["000000016", "000000024", "000000040", "000000048"]


def test_the_clock_asks_for_snapshots_too_and_keeps_only_the_newest_of_them(data: str, tmp_path: Path) -> None:
    asked = []

    def measure(generator: alis.Generator) -> tuple[str, float]:
        asked.append(len(folder.snapshots(tmp_path)))
        return "fid", -len(asked)

    config = small(run__tick_kimg=0.016, run__snapshot_minutes=1e-6)
    train(config, data, tmp_path, device="cpu", measure=measure)
    assert asked == [2, 3, 4], "after 16, 32 and 48 images: all but the timed ones of before, and one of them"
    assert [path.name for path in folder.snapshots(tmp_path)] == ["000000016", "000000032", "000000048"]
    train(small(run__kimg=0.056, run__snapshot_minutes=1e-6), data, tmp_path, device="cpu")
    assert not state.read_progress(tmp_path / "snapshots" / "000000056").is_timed


def test_a_run_of_so_many_minutes_saves_and_leaves_in_time(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small(run__kimg=1000, run__minutes=1e-6, run__snapshot_ticks=10_000)
    with caplog.at_level(logging.INFO, "alis"):
        last = train(config, data, tmp_path, device="cpu")
    assert last.name == "000000008"
    assert "the time is over after 8 images; run the same command again to go on" in caplog.text
    assert train(config, data, tmp_path, device="cpu").name == "000000016"


def test_a_metric_that_fails_in_mid_run_is_a_warning(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def measure(generator: alis.Generator) -> tuple[str, float]:
        raise DataError("shard 3 is gone", hint="fetch it again")

    with caplog.at_level(logging.WARNING, "alis"):
        assert train(small(), data, tmp_path, device="cpu", measure=measure).name == "000000048"
    assert caplog.text.count("not measured after") == 3
    assert "shard 3 is gone" in caplog.text


def test_a_metric_sees_pictures_as_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide pictures, of which training cuts squares at random places: the reference is of such squares."""
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
        fit: metrics.measure(alis.load(run), data, metrics.Plan(("fid",), num=8, features="random", fit=fit)).figures[
            "fid"
        ]
        for fit in ("crop", "resize")
    }
    assert found == pytest.approx(by_fit["crop"], rel=1e-4)
    assert abs(by_fit["resize"] - found) > 0.01 * found


def test_fine_tuning_a_finished_run_begins_at_0_and_says_so(
    data: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "alis"):
        last = train(small(run__kimg=0.016), data, tmp_path / "new", device="cpu", resume=str(finished))
    assert last == tmp_path / "new" / "snapshots" / "000000016"
    assert f"beginning at 0 images with the state of {finished}" in caplog.text
    told = json.loads((tmp_path / "new" / "run.json").read_text())["starts"][0]
    assert told["begun_with"] == str(finished / "snapshots" / "000000048")
    before = tensors(finished / "snapshots" / "000000048")
    (steps,) = [
        float(value) - float(before[name])
        for name, value in tensors(last).items()
        if name.endswith("optim_d.b4.fc.weight.step")
    ]
    assert steps == 3, "the optimiser goes on from its own count: two steps and one payment of R1"
    early = str(finished / "snapshots" / "000000032")
    with caplog.at_level(logging.INFO, "alis"):
        train(small(), data, tmp_path / "on", device="cpu", resume=early)
        train(small(run__count="zero"), data, tmp_path / "zero", device="cpu", resume=early)
    assert "counting on from its 32 images" in caplog.text
    assert [r["images"] for r in records(tmp_path / "on")] == [48]
    assert [r["images"] for r in records(tmp_path / "zero")] == [16, 32, 48]
    with pytest.raises(InputError, match=r"after 48 images, and run\.kimg asks for 48: nothing is left to train"):
        train(small(run__count="on"), data, tmp_path / "none", device="cpu", resume=str(finished))


def test_a_finished_run_is_left_as_it_is(data: str, finished: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in (finished / "snapshots").rglob("*"))
    last = train(small(augment__kind="ada"), data, finished, device="cpu")
    assert last.name == "000000048"
    assert sorted(path.stat().st_mtime_ns for path in (finished / "snapshots").rglob("*")) == before


def test_a_run_can_start_from_another_ones_snapshot(data: str, finished: Path, tmp_path: Path) -> None:
    config = small(run__kimg=0.056)
    last = train(config, data, tmp_path, device="cpu", resume=str(finished / "snapshots" / "000000032"))
    assert last == tmp_path / "snapshots" / "000000056"
    with pytest.raises(InputError, match="no snapshot to start from"):
        train(config, data, tmp_path / "x", device="cpu", resume=str(tmp_path / "nowhere"))


def test_the_newest_and_the_best_are_kept(data: str, tmp_path: Path) -> None:
    values = iter([3.0, 1.0, 2.0, 2.5, 2.2, 2.1])
    config = small(run__tick_kimg=0.008, run__keep=2)
    train(config, data, tmp_path, device="cpu", measure=lambda generator: ("inf-fid", next(values)))
    assert folder.read_best(tmp_path) == ("000000016", "inf-fid", 1.0)
    kept = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert kept == ["000000016", "000000040", "000000048"]
    assert [r["inf-fid"] for r in records(tmp_path, "inf-fid")] == [3.0, 1.0, 2.0, 2.5, 2.2, 2.1]


def test_too_few_images_and_data_out_of_reach(data: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="64 images, fewer than one batch of 128"):
        train(small(optim__batch=128), data, tmp_path, device="cpu")
    with pytest.raises(InputError, match="no Parquet files"):
        train(small(), str(tmp_path / "none"), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="not a multiple"):
        train(small(optim__batch=8, optim__micro=3), data, tmp_path, device="cpu")


def test_s3_out_of_reach_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(DataError, match="s3://bucket/set: can't be reached"):
        train(small(), "s3://bucket/set", tmp_path, device="cpu")


def alis_(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "alis", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_says_what_it_would_do_and_what_is_wrong(data: str) -> None:
    done = alis_(
        "train", "--data", data, "--config", "lhq1024", "--loss.r1-gamma", "5", "--data.no-mirror", "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["config"]["loss"]["r1_gamma"] == 5.0
    assert told["config"]["data"]["mirror"] is False
    assert told["config"]["optim"]["lr_g"] == 0.002
    assert told["data"]["num_images"] == 64
    done = alis_("train", "--data", data, "--config", "lhq265")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'did you mean "lhq256"?' in done.stderr


def test_wrong_settings_name_their_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[loss]\nr1_gama = 3\n")
    with pytest.raises(ConfigError, match=r'unknown key "r1_gama"; did you mean "r1_gamma"'):
        recipe.read(str(path))
    path.write_text("[los]\n")
    with pytest.raises(ConfigError, match=r'unknown table "los"; did you mean "loss"'):
        recipe.read(str(path))
    path.write_text("[loss\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        recipe.read(str(path))
    with pytest.raises(ConfigError, match="r1_gamma = -1"):
        recipe.read(None, {"loss.r1_gamma": -1.0})


@pytest.mark.parametrize("name", recipe.known())
def test_shipped_configs_are_valid(name: str) -> None:
    assert recipe.read(name).resolved(4).optim.batch


def test_lsun_goes_from_its_lmdb_into_training(tmp_path: Path) -> None:
    """An LMDB as LSUN ships them → `lhq import lsun` → export as they are → the Tower recipe, made small."""
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "tower_lmdb"), map_size=2**24) as database, database.begin(write=True) as writing:
        for number in range(24):
            buffer = io.BytesIO()
            Image.open(io.BytesIO(sets.scenery(number, 48))).resize((32, 48)).save(buffer, "WEBP")
            writing.put(f"{number:040x}".encode(), buffer.getvalue())
    pipeline = tmp_path / "tower.toml"
    pipeline.write_text(
        f'store = "{tmp_path / "store"}"\nwant = 24\n[filter.size]\nmin_side_px = 16\n'
        f'[export]\nto = "{tmp_path / "set"}"\nvariants = ["full"]\nvalidation = 0.0\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["import", "lsun", str(tmp_path / "tower_lmdb")], ["filter"], ["export"]):
        line = [sys.executable, "-m", "lhq", *words, str(pipeline)]
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    config = recipe.read("tower256", {**SMALL, "run.kimg": 0.016, "model.num_half_res": 1})
    assert config.data.fit == "crop"
    last = train(config, str(tmp_path / "set"), tmp_path / "run", device="cpu")
    assert alis.load(last).config.num_half_res == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["num_images"] == 24


def test_every_flag_of_the_recipe_says_what_it_does_and_its_default() -> None:
    told = {key: (default, text) for key, _, default, text in recipe.flags()}
    assert not [key for key, (_, text) in told.items() if not text]
    assert told["model.num_half_res"][0] == 4  # the recipe's, not the bare network's
    shown = CliRunner().invoke(importlib.import_module("alis.cli.train").command, ["--help"], terminal_width=200).output
    assert "Weight γ of R1, the discriminator's squared slope at real pictures; 0: off.  [10]" in shown
    assert "--model.num-half-res INTEGER" in shown
    assert "Undefined" not in shown


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.pop("optim_d.b4.fc.weight.exp_avg"), "lacks optim_d.b4.fc.weight.exp_avg"),
        (lambda t: [t.pop(f"optim_d.b4.fc.weight.{k}") for k in ADAM], "lacks optim_d.b4.fc.weight.step"),
        (lambda t: [t.pop(k) for k in list(t) if k.startswith("optim_d")], r"lacks optim_d.b16.fromrgb.\w+.step"),
        (lambda t: t["optim_g.mapping.fc0.weight.exp_avg_sq"].fill_(float("nan")), "exp_avg_sq is not finite"),
        (lambda t: t.update({"optim_g.mapping.fc0.weight.exp_avg": torch.zeros(2)}), r"\(2,\), not \(8, 8\)"),
        (lambda t: t.update({"mean_length": torch.tensor(1)}), r"mean_length is torch.int64"),
        (lambda t: t.pop("real_signs"), "lacks real_signs"),
    ],
)
def test_a_snapshot_without_all_its_optimisers_is_refused_by_name(
    spoil: Callable[[dict[str, torch.Tensor]], object], said: str, data: str, finished: Path, tmp_path: Path
) -> None:
    for is_counted in (True, False):  # the present version counts the tensors, earlier ones did not
        snapshot = tmp_path / f"{is_counted}"
        shutil.copytree(finished / "snapshots" / "000000032", snapshot)
        if not is_counted:
            (snapshot / state.PROGRESS).write_text('{"images": 32, "step": 4}\n')
        spoiled = load_file(snapshot / state.TRAINING)
        spoil(spoiled)
        save_file(spoiled, snapshot / state.TRAINING)
        with pytest.raises(InputError, match=rf"can't go on from it \(training.safetensors.*{said}"):
            train(small(), data, tmp_path / "run", device="cpu", resume=str(snapshot))


@pytest.mark.parametrize("text", ["", "[]", '{"images": 1e300, "step": 4}', '{"images": -8, "step": 4}', "[" * 100_000])
def test_a_progress_that_is_none_is_refused(text: str, data: str, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "snapshots" / "000000032", tmp_path / "snapshot")
    (tmp_path / "snapshot" / state.PROGRESS).write_text(text)
    with pytest.raises(InputError, match=r"can't go on from it .*progress\.json"):
        train(small(), data, tmp_path / "run", device="cpu", resume=str(tmp_path / "snapshot"))


def test_a_snapshot_of_the_version_before_opens(data: str, finished: Path, tmp_path: Path) -> None:
    """It did not count its tensors, and its progress says images and steps alone."""
    shutil.copytree(finished, tmp_path / "run")
    for folder_ in (tmp_path / "run" / "snapshots").iterdir():
        told = json.loads((folder_ / state.PROGRESS).read_text())
        (folder_ / state.PROGRESS).write_text(json.dumps({"images": told["images"], "step": told["step"]}))
    assert train(small(run__kimg=0.056), data, tmp_path / "run", device="cpu").name == "000000056"
