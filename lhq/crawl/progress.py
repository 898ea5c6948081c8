"""The line that tells how a crawl goes: rate, failures, hosts that ask for patience."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

import rich.console
import rich.progress

from lhq.http import Client

if TYPE_CHECKING:
    from lhq.crawl.fetch import Board

WINDOW_S = 20.0


class Progress:
    """A bar on stderr, silent where that is no terminal."""

    def __init__(self, board: Board, client: Client, want: int) -> None:
        self._board, self._client, self._want = board, client, want
        self._marks: deque[tuple[float, int, int]] = deque()
        console = rich.console.Console(stderr=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("crawl"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=want)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, doing: str = "") -> None:
        """Draw the present state."""
        if self._bar.disable:
            return
        line = " · ".join(part for part in (doing, *self._parts()) if part)
        self._bar.update(self._task, completed=min(self._board.num_kept, self._want), description=line)

    def _parts(self) -> list[str]:
        board, now = self._board, time.monotonic()
        self._marks.append((now, board.num_new, board.num_bytes))
        while now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        began, num, size = self._marks[0]
        seconds = max(now - began, 1e-3)
        rate = (board.num_new - num) / seconds
        parts = [f"{board.num_kept:,} of {self._want:,} photos"]
        if seconds > 1:
            parts.append(f"{rate:.1f}/s, {(board.num_bytes - size) / seconds / 1e6:.1f} MB/s")
        if rate > 0:
            parts.append(f"{span((self._want - board.num_kept) / rate)} left")
        failures = board.failures.most_common(3)
        if failures:
            parts.append("failed: " + ", ".join(f"{reason} {count:,}" for reason, count in failures))
        for host in self._client.hosts.all():
            wait_s = host.paused_until - now
            if wait_s > 1:
                parts.append(f"{host.name} rests {span(wait_s)} ({host.pause_reason})")
            elif host.is_slowed():
                parts.append(f"{host.name} slowed to {host.pace_per_s:.2g}/s")
        if self._client.is_stopped():
            parts.append("stopping, again to stop at once")
        return parts


def span(seconds: float) -> str:
    """A duration in two words: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def gigabytes(size_bytes: float) -> str:
    """A size in words: `980 MB`, `12.3 GB`, `1.2 TB`."""
    if size_bytes >= 1e12:
        return f"{size_bytes / 1e12:.1f} TB"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
