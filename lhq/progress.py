"""How a stage tells how far it is: one callback, which the command line draws and a script may ignore."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Called again and again while a stage works, from the thread that started it."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """`what` names the work (one bar a name), `done` of `total` is how far it is, `note` what else is worth
        telling (a rate, a host that asks for patience)."""
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Tells nobody."""
