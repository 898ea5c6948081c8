"""Progress for every long command: bars on a terminal, a line per minute elsewhere, both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lhq.cli.talk import is_quiet
from lhq.progress import OnProgress, silent

LINE_EVERY_S = 60.0


@contextmanager
def progress() -> Iterator[OnProgress]:
    """The callback that stages take: one bar for each name it is called with, removed when the work is done."""
    if is_quiet() or not sys.stderr.isatty():
        yield silent if is_quiet() else Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, note="")
            said = " · ".join(part for part in (_count(done, total), note) if part)
            bars.update(tasks[what], completed=done, total=total or None, note=said)

        yield draw


class Lines:
    """A line a minute for each name, the first one after a minute."""

    def __init__(self, every_s: float = LINE_EVERY_S) -> None:
        self._every_s = every_s
        self._told_s: dict[str, float] = {}
        self._began: dict[str, tuple[float, int]] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        began_s, at_first = self._began.setdefault(what, (now, done))
        if now - self._told_s.setdefault(what, now) < self._every_s:
            return
        self._told_s[what] = now
        left = ""
        if at_first < done < total:
            left = f"{_span((total - done) * (now - began_s) / (done - at_first))} left"
        said = " · ".join(part for part in (_count(done, total), note, left) if part)
        print(f"{what}: {said}", file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _count(done: int, total: int) -> str:
    return f"{done:,} of {total:,}" if total else f"{done:,}"
