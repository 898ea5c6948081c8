"""Progress bars of long-running work: the same look as in `lhq`, with a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lhq.cli.progress import progress

Advance = Callable[..., object]
"""Called with the amount done since the last call, e.g. a number of pictures."""


def no_progress(amount: int) -> None:
    """An `Advance` that shows nothing."""


@contextmanager
def progress_bar(label: str, total: int, unit: str = "", *, scale: float = 1.0) -> Iterator[Advance]:
    """A progress bar; `advance(amount, note="")` also shows the rate, as `amount · scale` per second in `unit`."""
    began_s, done = time.perf_counter(), 0
    with progress() as on_progress:

        def advance(amount: int, note: str = "") -> None:
            nonlocal done
            done += amount
            rate = done * scale / max(time.perf_counter() - began_s, 1e-9)
            on_progress(label, done, total, " · ".join([f"{rate:.2f} {unit}/s"] * bool(unit) + [note] * bool(note)))

        yield advance
