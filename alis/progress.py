"""One look for everything that takes longer than two seconds: a bar on stderr, silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]


@contextmanager
def bar(label: str, total: float, unit: str = "", *, scale: float = 1.0) -> Iterator[Advance]:
    """A bar whose `advance(amount, note="")` also shows the rate, as `amount · scale` a second in `unit`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(label, total=total, rate="", note="")

        def advance(amount: float, note: str = "") -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed * scale:.2f} {unit}/s" if speed and unit else ""
            progress.update(task, advance=amount, rate=rate, note=note)

        yield advance
