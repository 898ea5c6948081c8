"""The line that tells how a crawl goes: rate, failures, hosts that ask for patience."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from lhq.http import Client
from lhq.progress import OnProgress

if TYPE_CHECKING:
    from lhq.crawl.fetch import Board

WINDOW_S = 20.0


class Progress:
    """What a crawl tells as it goes; rates are those of the last `WINDOW_S` seconds."""

    def __init__(self, board: Board, client: Client, want: int, on_progress: OnProgress) -> None:
        self._board, self._client, self._want, self._on_progress = board, client, want, on_progress
        self._marks: deque[tuple[float, int, int]] = deque()

    def update(self, doing: str = "") -> None:
        """Tell the present state."""
        note = " · ".join(part for part in (doing, *self._parts()) if part)
        self._on_progress("crawl", min(self._board.num_kept, self._want), self._want, note)

    def _parts(self) -> list[str]:
        board, now = self._board, time.monotonic()
        self._marks.append((now, board.num_new, board.num_bytes))
        while now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        began, num, size = self._marks[0]
        seconds = max(now - began, 1e-3)
        parts = []
        if seconds > 1:
            parts.append(
                f"{(board.num_new - num) / seconds:.1f}/s, {(board.num_bytes - size) / seconds / 1e6:.1f} MB/s"
            )
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
