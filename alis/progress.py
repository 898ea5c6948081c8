"""Progress bars of long-running work: the same look as in `lhq`, with a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lhq.cli.progress import progress
from lhq.progress import OnProgress

Advance = Callable[..., object]
"""Called with the amount done since the last call, e.g. a number of pictures."""


def no_progress(amount: int) -> None:
    """An `Advance` that shows nothing."""


def counter(on_progress: OnProgress, label: str, total: int, *, times: int = 1) -> Advance:
    """An `Advance` that tells `on_progress(label, done, total)`.

    Args:
        times: processes that do as much meanwhile.
    """
    done = 0

    def advance(amount: int) -> None:
        nonlocal done
        done = min(done + amount * times, total)
        on_progress(label, done, total)

    return advance


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
