"""A small model on a plane without seams, in a folder and open; files that need another have their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import alis
from tests.alis import painter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    alis.save(folder, painter.tiny(padding="plane", local_latents=0.5))
    return folder


@pytest.fixture(scope="module")
def g(model: Path) -> alis.Generator:
    return alis.load(model)
