"""When a run saves, what it keeps, and what happens on a full disk."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from pathlib import Path

import pytest
import torch

import alis
from alis.errors import DataError, RunError
from alis.training import run_folder, state
from alis.training.loop import train
from tests.alis.disk import files_up_to
from tests.alis.training.runs import records, small, tensors


def test_a_full_disk_skips_the_snapshot_and_the_run_continues(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """During a run, the snapshot is tried again at the next tick, and nothing is lost."""
    run, config = tmp_path / "run", small(run__tick_kimg=0.008, run__snapshot_ticks=2)
    measured = []

    def measure(generator: alis.Generator) -> tuple[str, float]:
        """Called after 16 images, when the disk has been full; from now on it has space again."""
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
def test_a_run_that_cannot_save_its_result_ends_with_an_error(
    has_room: bool, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With space for the networks but not the optimisers, the networks are saved; with no space, the error says so."""
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
    assert not list(tmp_path.rglob(".*.part")), "what was begun is gone, and its room with it"
    rescued = [path.parent for path in tmp_path.rglob("config.json") if "sizes" not in path.parts]
    if not has_room:
        assert rescued == []
        assert "nor anywhere else" in caught.value.message
        assert "the run has no snapshot" in caught.value.message
        return
    assert f"its networks, without optimisers, are in {rescued[0]}" in caught.value.message
    train(config, data, tmp_path / "other", device="cpu", resume=str(rescued[0]))


def test_the_final_state_is_saved_wherever_there_is_space(
    data: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's folder can't be written any more; the whole state is saved in the cache and can be resumed."""
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


def test_snapshots_are_written_whenever_the_interval_is_crossed(data: str, tmp_path: Path) -> None:
    """A batch of 8 hits multiples of 12 only every second time; the interval is kept anyway."""
    train(small(run__tick_kimg=0.012), data, tmp_path, device="cpu")
    assert [r["images"] for r in records(tmp_path)] == [16, 24, 40, 48]
    assert [path.name for path in run_folder.snapshots(tmp_path)] == [
        "000000016",
        "000000024",
        "000000040",
        "000000048",
    ]


def test_snapshot_ticks_of_two_gives_a_snapshot_every_second_tick(data: str, tmp_path: Path) -> None:
    train(small(run__tick_kimg=0.008, run__snapshot_ticks=2, run__kimg=0.04), data, tmp_path, device="cpu")
    assert [r["images"] for r in records(tmp_path)] == [8, 16, 24, 32, 40]
    assert [path.name for path in run_folder.snapshots(tmp_path)] == ["000000016", "000000032", "000000040"]


def test_timed_snapshots_are_written_and_only_the_newest_is_kept(data: str, tmp_path: Path) -> None:
    asked, told = [], []

    def measure(generator: alis.Generator) -> tuple[str, float]:
        written = run_folder.snapshots(tmp_path)
        asked.append(len(written))
        told.append([json.loads((path / "progress.json").read_text()).get("is_timed") for path in written])
        return "fid", -len(asked)

    config = small(run__tick_kimg=0.016, run__snapshot_minutes=1e-6)
    train(config, data, tmp_path, device="cpu", measure=measure)
    assert asked == [2, 3, 4], "after 16, 32 and 48 images: all but the timed ones of before, and one of them"
    assert told[0] == [True, False], "the file says which of them the clock asked for"
    assert [path.name for path in run_folder.snapshots(tmp_path)] == ["000000016", "000000032", "000000048"]
    train(small(run__kimg=0.056, run__snapshot_minutes=1e-6), data, tmp_path, device="cpu")
    assert not state.read_progress(tmp_path / "snapshots" / "000000056").is_timed


def test_a_metric_that_fails_during_a_run_is_a_warning(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def measure(generator: alis.Generator) -> tuple[str, float]:
        raise DataError("shard 3 is gone", hint="fetch it again")

    with caplog.at_level(logging.WARNING, "alis"):
        assert train(small(), data, tmp_path, device="cpu", measure=measure).name == "000000048"
    assert caplog.text.count("not measured after") == 3
    assert "shard 3 is gone" in caplog.text


def test_the_newest_and_the_best_are_kept(data: str, tmp_path: Path) -> None:
    values = iter([3.0, 1.0, 2.0, 2.5, 2.2, 2.1])
    config = small(run__tick_kimg=0.008, run__keep=2)
    train(config, data, tmp_path, device="cpu", measure=lambda generator: ("inf-fid", next(values)))
    assert run_folder.read_best(tmp_path) == ("000000016", "inf-fid", 1.0)
    kept = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert kept == ["000000016", "000000040", "000000048"]
    assert [r["inf-fid"] for r in records(tmp_path, "inf-fid")] == [3.0, 1.0, 2.0, 2.5, 2.2, 2.1]
