"""Learning rates that decay over a run, measured by how far the weights move."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alis.training import losses, recipe
from alis.training.loop import train
from tests.alis import sets
from tests.alis.training.runs import small, tensors

STEP = {"run__kimg": 0.016, "run__tick_kimg": 0.008}  # two steps, a snapshot after each


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 16, size=16, per_file=16, paint=sets.scenery))


def weights(run: Path, images: int) -> dict[str, torch.Tensor]:
    return load_file(run / "snapshots" / f"{images:09d}" / "generator.safetensors")


def test_rates_decay_along_half_a_cosine() -> None:
    assert [losses.cosine_decay(images, 1000, 0.1) for images in (0, 500, 1000, 2000)] == pytest.approx(
        [1, 0.55, 0.1, 0.1]
    )
    assert losses.cosine_decay(250, 1000, 0.0) == pytest.approx((1 + 0.5**0.5) / 2)
    assert recipe.read("tiny").optim.lr_end == 1


def test_the_generators_rate_rises_along_a_straight_line_before_it_falls() -> None:
    assert [losses.warm_up(images, 400) for images in (0, 100, 400, 800)] == [0, 0.25, 1, 1]
    assert losses.warm_up(0, 0) == 1


def test_steps_are_half_as_long_at_half_the_run(data: str, tmp_path: Path) -> None:
    for name, end in (("stays", 1.0), ("falls", 1e-9)):
        train(small(optim__lr_end=end, **STEP), data, tmp_path / name, device="cpu")
    stays, falls = ({at: weights(tmp_path / name, at) for at in (8, 16)} for name in ("stays", "falls"))
    assert all(torch.equal(stays[8][name], falls[8][name]) for name in stays[8])
    for name in ("mapping.fc0.weight", "synthesis.b16.conv1.weight"):
        whole, half = (run[16][name] - run[8][name] for run in (stays, falls))
        assert whole.abs().max() > 1e-3
        torch.testing.assert_close(half, whole / 2, rtol=1e-3, atol=1e-5)


def test_resuming_at_half_the_run_changes_nothing(data: str, tmp_path: Path) -> None:
    config, whole, again = small(optim__lr_end=0.1, **STEP), tmp_path / "whole", tmp_path / "again"
    train(config, data, whole, device="cpu")
    shutil.copytree(whole, again)
    shutil.rmtree(again / "snapshots" / "000000016")
    train(config, data, again, device="cpu")
    ends = [tensors(run / "snapshots" / "000000016") for run in (whole, again)]
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []
