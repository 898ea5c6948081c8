"""What a host's owner asked for: robots.txt rules, cached per host, and opt-out headers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from protego import Protego

from lhq.errors import FetchError
from lhq.http.guard import Target

FRESH_S = 24 * 3600.0
MAX_BYTES = 512 * 1024
# "none" is "noindex, nofollow" in one word.
OPT_OUTS = {"noai", "noimageai", "noml", "noindex", "noimageindex", "none"}
_WORDS = re.compile(r"[^\s,;:]+")


def opt_out(header: str) -> str | None:
    """The opt-out that an X-Robots-Tag header holds, whichever bot it names, or None."""
    return next((word for word in _WORDS.findall(header.lower()) if word in OPT_OUTS), None)


class Robots:
    """robots.txt of every host, fetched once a day at most.

    Args:
        fetch: target → text of its robots.txt; "" where there is none (4xx: everything is allowed).
            Raises FetchError where the host can't say (5xx, no answer): nothing is allowed until it can.
    """

    def __init__(self, user_agent: str, fetch: Callable[[Target], str]) -> None:
        self._user_agent, self._fetch = user_agent, fetch
        self._rules: dict[str, tuple[float, Protego]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def allows(self, target: Target) -> bool:
        """May this URL be fetched?

        Raises:
            FetchError: the host's robots.txt can't be had now; not permanent.
        """
        return bool(self.rules(target).can_fetch(target.url, self._user_agent))

    def crawl_delay_s(self, target: Target) -> float | None:
        delay = self.rules(target).crawl_delay(self._user_agent)
        return float(delay) if delay is not None else None

    def rules(self, target: Target) -> Protego:
        with self._lock:
            lock = self._locks.setdefault(target.netloc, threading.Lock())
        with lock:
            found = self._rules.get(target.netloc)
            if found is not None and time.monotonic() - found[0] < FRESH_S:
                return found[1]
            place = Target(target.scheme, target.host, target.port, "/robots.txt")
            try:
                rules = Protego.parse(self._fetch(place))
            except FetchError as error:
                raise FetchError(
                    f"{place.url}: {error.message}",
                    hint=error.hint,
                    reason=error.reason
                    if error.reason in {"forbidden-address", "stopped"}
                    else f"robots-{error.reason}",
                    permanent=error.reason == "forbidden-address",
                ) from error
            self._rules[target.netloc] = (time.monotonic(), rules)
            return rules
