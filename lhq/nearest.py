"""A mistyped word or path → the nearest existing one, as the hint of an error."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


def word(given: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean "full"?`, or `otherwise` where nothing is close."""
    near = difflib.get_close_matches(given, [*known], n=1)
    return f'did you mean "{near[0]}"?' if near else otherwise


def path(given: str | os.PathLike[str], otherwise: str) -> str:
    """`did you mean /data/pictures?` for a missing path: its first missing part replaced by the nearest name in that
    folder, if the rest then exists; else `otherwise`.
    """
    given = Path(os.path.abspath(given))
    lacking = next((one for one in [*reversed(given.parents), given] if not one.exists()), None)
    if lacking is None:
        return otherwise
    try:
        names = os.listdir(lacking.parent)
    except OSError:
        return otherwise
    for near in difflib.get_close_matches(lacking.name, names, n=3):
        meant = lacking.parent / near / given.relative_to(lacking)
        if meant.exists():
            return f"did you mean {meant}?"
    return otherwise
