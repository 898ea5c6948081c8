"""What a command as it is typed left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """Exit code, data and talk."""

    returncode: int
    stdout: str
    stderr: str


Lhq = Callable[..., Done]
