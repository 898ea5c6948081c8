"""How the loops of metrics tell that they go on: called with the number of pictures done since the last call."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], object]


def silent(num: int) -> None:
    """Tells nobody."""
