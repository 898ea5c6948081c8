"""The progress line of a crawl: rate, failures, hosts that asked for a pause."""

from __future__ import annotations

import logging
import time
from collections import deque

from lhq.crawl.work import WorkQueue
from lhq.http import Client, Host
from lhq.progress import OnProgress
from lhq.records import ALL

WINDOW_S = 20.0
# Lines about hosts: the command line shows them where no progress bar does.
hosts_log = logging.getLogger("lhq.crawl.hosts")


class Progress:
    """A crawl's progress; rates are over the last `WINDOW_S` seconds."""

    def __init__(self, work: WorkQueue, client: Client, want: int, on_progress: OnProgress) -> None:
        self._work, self._client, self._want, self._on_progress = work, client, want, on_progress
        self._marks: deque[tuple[float, int, int]] = deque()
        self._resting: set[str] = set()

    def update(self, doing: str = "") -> None:
        """Tell the present state."""
        note = " · ".join(part for part in (doing, *self._parts()) if part)
        total = self._want if self._want < ALL else 0
        self._on_progress("crawl", min(self._work.num_kept, self._want), total, note)

    def _parts(self) -> list[str]:
        work, now = self._work, time.monotonic()
        self._marks.append((now, work.num_new, work.num_bytes))
        while now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        began, num, size = self._marks[0]
        seconds = max(now - began, 1e-3)
        parts = []
        if seconds > 1:
            parts.append(f"{(work.num_new - num) / seconds:.1f}/s, {(work.num_bytes - size) / seconds / 1e6:.1f} MB/s")
        failures = work.failures.most_common(3)
        if failures:
            parts.append("failed: " + ", ".join(f"{reason} {count:,}" for reason, count in failures))
        for host in self._client.hosts.all():
            wait_s = host.paused_until - now
            self._tell(host, wait_s)
            if wait_s > 1:
                parts.append(f"{host.name} rests {span(wait_s)} ({host.pause_reason})")
            elif host.is_slowed():
                parts.append(f"{host.name} slowed to {host.pace_per_s:.2g}/s")
        if self._client.is_stopped():
            parts.append("stopping, again to stop at once")
        return parts

    def _tell(self, host: Host, wait_s: float) -> None:
        """Print one line when a host is paused, and one when it is asked again."""
        if wait_s > 1 and host.name not in self._resting:
            self._resting.add(host.name)
            hosts_log.info("%s rests %s (%s)", host.name, span(wait_s), host.pause_reason)
        elif wait_s <= 0 and host.name in self._resting:
            self._resting.discard(host.name)
            hosts_log.info("%s is asked again", host.name)


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
