"""What a run can start from: its own snapshot, another run's, a model; and what it refuses to start from."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alis.errors import ConfigError, InputError
from alis.training import run_folder, state
from alis.training.loop import train
from tests.alis.training.runs import records, small, tensors

ADAM = ("step", "exp_avg", "exp_avg_sq")


def test_a_run_can_start_from_a_model_with_its_discriminator(
    data: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fine-tuning, as from an imported checkpoint; the same command again continues the run and does not restart it."""
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
    (run / "snapshots" / "000000032" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match="remove that folder: the run then continues from the snapshot before it"):
        train(small(), data, run, device="cpu")


def test_a_run_can_start_from_a_model_for_painting_only(
    data: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fine-tuning, as from the packaged model; the generator waits for its new discriminator."""
    model, run = tmp_path / "model", tmp_path / "run"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(finished / "snapshots" / "000000048" / name, model)
    config = small(run__kimg=0.016, run__tick_kimg=0.008, optim__warm_up_kimg=0.032)
    with caplog.at_level(logging.INFO, "alis"):
        train(config, data, run, resume=str(model), device="cpu")
    assert "has no discriminator: a new one starts untrained; with --optim.warm-up-kimg" in caplog.text
    was = load_file(model / "model.safetensors")["synthesis.b16.conv1.weight"]
    first, second = (load_file(run / "snapshots" / at / "generator.safetensors") for at in ("000000008", "000000016"))
    assert torch.equal(first["synthesis.b16.conv1.weight"], was)
    assert 0 < (second["synthesis.b16.conv1.weight"] - was).abs().max() < 0.0025


def test_resuming_with_other_networks_shows_the_difference(data: str, finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"channel_max = 8 in the run, 16 requested"):
        train(small(model__channel_max=16), data, finished, device="cpu")
    with pytest.raises(InputError, match="already has snapshot 000000048"):
        train(small(), data, finished, device="cpu", resume="never")


def test_fine_tuning_a_finished_run_starts_at_0_images_and_logs_it(
    data: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "alis"):
        last = train(small(run__kimg=0.016), data, tmp_path / "new", device="cpu", resume=str(finished))
    assert last == tmp_path / "new" / "snapshots" / "000000016"
    assert f"starting at 0 images from the state of {finished}" in caplog.text
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
    assert "continuing its count of 32 images" in caplog.text
    assert [r["images"] for r in records(tmp_path / "on")] == [48]
    assert [r["images"] for r in records(tmp_path / "zero")] == [16, 32, 48]
    with pytest.raises(InputError, match=r"has seen 48 images, and run\.kimg asks for 48: nothing is left to train"):
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
        with pytest.raises(InputError, match=rf"can't be resumed \(training.safetensors.*{said}"):
            train(small(), data, tmp_path / "run", device="cpu", resume=str(snapshot))


@pytest.mark.parametrize("name", ["generator.safetensors", "training.safetensors", state.PROGRESS, "best.json"])
def test_a_rotten_or_foreign_file_of_a_snapshot_is_refused_by_name(
    name: str, data: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(said: str) -> None:
        with pytest.raises(InputError, match=rf"can't be resumed \(.*{name}.*{said}"):
            train(small(), data, tmp_path / "run", device="cpu", resume=str(snapshot))

    snapshot = tmp_path / "snapshot"
    shutil.copytree(finished / "snapshots" / "000000032", snapshot)
    file = snapshot / name
    if name == "best.json":
        run_folder.note_best(snapshot, "000000032", "fid", 41.5)
        file.write_text(file.read_text().replace("41.5", "11.5"))
        assert run_folder.read_best(snapshot) is None
        assert f"{file}: damaged, left out (its checksum is wrong" in caplog.text
    elif name == state.PROGRESS:
        file.write_text(file.read_text().replace('"images": 32', '"images": 36'))
        refused("its checksum is wrong")
    else:
        whole = bytearray(file.read_bytes())
        whole[-1] ^= 1
        file.write_bytes(whole)
        refused("its checksum is wrong")
        shutil.copy(finished / "snapshots" / "000000048" / name, snapshot)
        refused("is of another")


@pytest.mark.parametrize("text", ["", "[]", '{"images": 1e300, "step": 4}', '{"images": -8, "step": 4}', "[" * 100_000])
def test_an_invalid_progress_is_refused(text: str, data: str, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "snapshots" / "000000032", tmp_path / "snapshot")
    (tmp_path / "snapshot" / state.PROGRESS).write_text(text)
    with pytest.raises(InputError, match=r"can't be resumed .*progress\.json"):
        train(small(), data, tmp_path / "run", device="cpu", resume=str(tmp_path / "snapshot"))


def test_a_snapshot_of_the_previous_version_opens(data: str, finished: Path, tmp_path: Path) -> None:
    """An old snapshot does not count its tensors, and its progress has only images and steps."""
    shutil.copytree(finished, tmp_path / "run")
    for folder_ in (tmp_path / "run" / "snapshots").iterdir():
        told = json.loads((folder_ / state.PROGRESS).read_text())
        (folder_ / state.PROGRESS).write_text(json.dumps({"images": told["images"], "step": told["step"]}))
    assert train(small(run__kimg=0.056), data, tmp_path / "run", device="cpu").name == "000000056"
