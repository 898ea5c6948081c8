"""How a stage reports progress: one callback, which the command line draws and a script may ignore."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Called repeatedly while a stage works, from the thread that started it."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """`what` names the work (one bar per name), `done` of `total` is its progress, `note` anything else worth
        showing (a rate, a host that asked for a pause).
        """
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Reports nothing."""
