"""What every test shares: the folder of outside material, skipped with a reason where it is absent."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A suite started in the background inherits an ignored SIGINT, and so would every command it tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, nasty files and fixtures beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"no test material at {SHARED.name}/ beside the project")
    return SHARED
