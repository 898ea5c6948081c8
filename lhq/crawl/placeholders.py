"""Pictures that say "gone": one picture under many ids, or the end of a redirect to a service's placeholder.

Services answer for a deleted photo with a picture, and status 200. Such a picture passes every check on arrival. It
gives itself away by its bytes, which come under other ids of the same source too: at the third id all of them are
failures, also those that were kept before it was known. Its sha256 is remembered among the store's tombstones.
"""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from lhq.crawl.frontier import Frontier
from lhq.store import tombstones

REASON = "placeholder"
# The same photo is uploaded twice now and then.
MANY = 3
_WHAT = r"(?:photo|image|img|picture|pic|file|media|content)s?"
# A placeholder's name says that there is no picture, and nothing else: words of these, and its size.
_GONE = re.compile(
    rf"unavailable|removed|deleted|missing|placeholder|404|spaceball|not?-?(?:longer-?)?(?:available|found)|\bno-?{_WHAT}"
)
_WORDS = re.compile(
    rf"(?:{_WHAT}|not?|longer|currently|(?:un)?available|found|removed|deleted|missing|placeholder|404|spaceball"
    r"|this|the|is|was|has|been|by|owner|user|author|page|error)+"
)
_SIZE = re.compile(r"(?!404)\d+(?:x\d+)?(?:px|x)?|[a-z]|large|medium|small|thumb(?:nail)?|default|icon")


def says_gone(requested_url: str, final_url: str) -> bool:
    """Did a photo's address lead to a placeholder's?"""
    words, name = _words(final_url), "-".join(_words(final_url))
    if words == _words(requested_url) or not _GONE.search(name):
        return False
    return all(_WORDS.fullmatch(word) or _SIZE.fullmatch(word) for word in words)


def _words(url: str) -> list[str]:
    """The words of a file's name, without what follows its first dot."""
    stem = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return [word for word in re.split(r"[\s_@+-]+", stem.lower()) if word]


class Placeholders:
    """Recognises placeholders by their bytes; safe to use from many threads."""

    def __init__(self, store: str, frontier: Frontier) -> None:
        self._store, self._frontier = store, frontier
        rows = [row for row in tombstones.read(store).to_pylist() if row["reason"] == REASON]
        self.ids = frozenset(row["id"] for row in rows)
        self._known = {row["sha256"] for row in rows}
        self._lock = threading.Lock()

    def is_one(self, number: int, sha256: str) -> bool:
        """Is this the picture of candidate `number` alone, or one that came under `MANY` ids?"""
        if sha256 not in self._known and len(self._frontier.same_picture(number, sha256)) >= MANY:
            with self._lock:
                self._known.add(sha256)
        return sha256 in self._known

    def uncover(self) -> list[str]:
        """Turn photos that were kept before they were known as placeholders into failures.

        Returns:
            their ids.

        Raises:
            StoreError: the tombstones can't be written.
        """
        with self._lock:
            known = sorted(self._known)
        sha256_of = {id: sha256 for sha256 in known for id in self._frontier.kept_as(sha256)}
        if sha256_of:
            tombstones.add(self._store, sha256_of, REASON, datetime.now(UTC))
            self._frontier.refuse(list(sha256_of), REASON)
        return list(sha256_of)
