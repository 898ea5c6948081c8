"""What tests of lhq share beyond a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import filtered


@pytest.fixture(scope="session")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline file of a store of 44 photos that was filtered; read only."""
    return filtered.build(tmp_path_factory.mktemp("filtered"))
