"""A dataset of 64 painted squares, and a run on it, shared by the tests of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from alis.training.loop import train
from tests.alis import sets
from tests.alis.training.runs import small


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 64, size=16, per_file=64, paint=sets.scenery))


@pytest.fixture(scope="module")
def finished(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with augmentation, with a snapshot after every second step."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(small(augment__kind="ada", augment__p=0.3, augment__speed_kimg=1), data, run, device="cpu")
    return run
