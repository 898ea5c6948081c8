"""What every test shares: the folder of outside material, skipped with a reason where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, nasty files and fixtures beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"no test material at {SHARED.name}/ beside the project")
    return SHARED
