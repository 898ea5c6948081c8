"""Request → answer: the types that both services and the server share."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the services read it: `params` from the query string and, for a POST, the form."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: status, body, type and additional headers."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), "application/json", headers or {})


def whole(text: str | None, default: int, low: int, high: int) -> int:
    """A number of a query string, kept within its bounds as the services do; an invalid one becomes the default."""
    try:
        return min(high, max(low, int(text))) if text else default
    except ValueError:
        return default


class Quota:
    """Calls per key and window: `limit` calls, then none until the window is over."""

    def __init__(self, limit: int, window_s: float = 3600.0) -> None:
        self.limit = limit
        self.window_s = window_s
        self._used: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> int:
        """Calls left after this one; -1 if this one exceeds the limit."""
        with self._lock:
            now = time.monotonic()
            started, used = self._used.get(key, (now, 0))
            if now - started >= self.window_s:
                started, used = now, 0
            if used >= self.limit:
                return -1
            self._used[key] = (started, used + 1)
            return self.limit - used - 1

    def wait_s(self, key: str) -> float:
        """Seconds until the key's window is over."""
        with self._lock:
            started, _ = self._used.get(key, (time.monotonic(), 0))
            return max(0.0, started + self.window_s - time.monotonic())
