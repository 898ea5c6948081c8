"""Candidate → photo: threads that fetch, check the bytes, and hand photos to the writer.

A failure is recorded with its reason; a temporary one is retried, waiting three times longer each time. A local file is
read once: what is wrong with it will not fix itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lhq.crawl import placeholders
from lhq.crawl.frontier import Frontier, Waiting
from lhq.crawl.papers import now, papers_of
from lhq.crawl.placeholders import Placeholders, says_gone
from lhq.crawl.spool import PreparedPhoto
from lhq.crawl.work import WorkQueue
from lhq.crawl.writer import Fetched, PhotoWriter
from lhq.errors import FetchError, ImageError
from lhq.http import Client
from lhq.images import Header, inspect
from lhq.images.metadata import metadata_bytes, xmp_packets
from lhq.rights.reservations import Evidence, evidence_of_photo
from lhq.sources import Source

RETRY_LONGEST_S = 3600.0
THROTTLE_LONGEST_S = 60.0
# A photo that is throttled this often for its own sake, or this often in all, is left to the next run.
MOST_OWN_THROTTLES = 8
MOST_THROTTLES = 50
MOST_WORKERS = 64
# Failed checks that another attempt may cure.
_MAY_PASS = {"truncated", "corrupt-header", "empty"}


@dataclass(frozen=True)
class KeptOut:
    """What is never kept, whatever a source offers: bytes that were taken down, and placeholders."""

    removed_sha256: frozenset[str]
    placeholders: Placeholders


class Fetcher:
    """The worker threads: as many as one host allows, for each source."""

    def __init__(
        self,
        work: WorkQueue,
        writer: PhotoWriter,
        frontier: Frontier,
        client: Client,
        sources: Mapping[str, Source],
        kept_out: KeptOut,
    ) -> None:
        self._work, self._writer, self._frontier, self._client = work, writer, frontier, client
        self._sources, self._kept_out = sources, kept_out
        self._throttles: Counter[int] = Counter()
        num = min(MOST_WORKERS, max(1, client.settings.per_host) * max(1, len(sources)))
        self.threads = [threading.Thread(target=self._run, name=f"fetch {i}", daemon=True) for i in range(num)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self, until: Callable[[], bool]) -> bool:
        """Wait for all threads while `until` is false; True if they ended."""
        while any(thread.is_alive() for thread in self.threads):
            if until():
                return False
            for thread in self.threads:
                thread.join(0.05)
                if thread.is_alive():
                    break
        return True

    def _run(self) -> None:
        try:
            while (waiting := self._work.take()) is not None:
                self._one(waiting)
        except BaseException as error:
            self._work.crashed(error)

    def _one(self, waiting: Waiting) -> None:
        is_local = self._sources[waiting.candidate.source].is_local
        try:
            data, evidence = self._bytes(waiting)
            header = inspect(data, max_pixels=self._client.settings.max_pixels)
            self._judge(waiting, header)
            evidence = evidence.merge(evidence_of_photo(waiting.candidate, metadata_bytes(data), xmp_packets(data)))
            if binding := evidence.binding(self._client.policy.honour):
                raise _refusal(waiting, binding, "opt-out")
        except FetchError as error:
            self._failed(waiting, error.reason, error.message, may_pass=not (error.permanent or is_local))
        except ImageError as error:
            self._failed(waiting, error.reason, error.message, may_pass=error.reason in _MAY_PASS and not is_local)
        else:
            self._work.num_bytes += len(data)
            if not self._work.claim():
                self._work.dropped(waiting.number, "")
                return
            papers = papers_of(waiting.candidate, header, waiting.candidate.url, now(), evidence)
            self._writer.put(Fetched(waiting.number, PreparedPhoto.of(papers, data)))

    def _bytes(self, waiting: Waiting) -> tuple[bytes | bytearray, Evidence]:
        """The photo's bytes, and what its host said about using them."""
        candidate = waiting.candidate
        source, url = self._sources[candidate.source], candidate.url
        if why := self._client.policy.deny_list.matching_entry(
            [candidate.author, candidate.attribution], [candidate.page_url, candidate.author_url, url]
        ):
            if not source.is_local:
                self._client.hosts.release(self._client.host_of(url))
            raise _refusal(waiting, f"denied: {why}", "denied")
        if source.is_local:
            return source.read(candidate), Evidence({})
        answer = self._client.fetch(url, has_slot=True)
        if says_gone(url, answer.url):
            raise FetchError(
                f"{self._client.clean(answer.url)} is where the photo's address leads: it is gone",
                hint="it is not asked for again",
                reason=placeholders.REASON,
                permanent=True,
            )
        return answer.body, answer.evidence

    def _judge(self, waiting: Waiting, header: Header) -> None:
        source = self._sources[waiting.candidate.source]
        least = source.settings.min_side_px
        if min(header.width_px, header.height_px) < least:
            raise ImageError(
                f"{header.width_px} x {header.height_px}, the short side must be {least}",
                hint="lower min_side_px if smaller photos are meant",
                reason="too-small",
            )
        if not source.is_local and self._kept_out.placeholders.is_one(waiting.number, header.sha256):
            raise ImageError(
                "this picture comes under many ids: it stands for photos that are gone",
                hint="it is not asked for again",
                reason=placeholders.REASON,
            )
        if header.sha256 in self._kept_out.removed_sha256:
            raise ImageError("these bytes were taken down", hint="see removed.parquet", reason="removed")

    def _failed(self, waiting: Waiting, reason: str, message: str, *, may_pass: bool) -> None:
        if reason == "stopped":
            self._work.dropped(waiting.number, "")
            return
        is_mood = reason == "throttled"
        if is_mood:
            delay_s = self._throttled(waiting)
        else:
            attempts = waiting.attempts + 1
            delay_s = None
            if may_pass and attempts < self._client.settings.max_attempts:
                delay_s = min(RETRY_LONGEST_S, self._client.settings.retry_delay_s * 3.0 ** min(attempts - 1, 10))
        retry_at = None if delay_s is None else time.time() + delay_s * random.uniform(0.5, 1.5)
        self._frontier.fail(waiting.number, reason, self._client.clean(message), retry_at=retry_at, counts=not is_mood)
        self._work.dropped(waiting.number, reason)

    def _throttled(self, waiting: Waiting) -> float | None:
        """Seconds until a throttled photo is tried again; None where this run gives up on it."""
        self._throttles[waiting.number] += 1
        num_own = self._client.num_page_throttles(waiting.candidate.url)
        if num_own >= MOST_OWN_THROTTLES or self._throttles[waiting.number] >= MOST_THROTTLES:
            return None
        return min(THROTTLE_LONGEST_S, self._client.settings.retry_delay_s * 2.0 ** min(num_own, 10))


def _refusal(waiting: Waiting, what: str, reason: str) -> FetchError:
    return FetchError(
        f"{waiting.candidate.id}: {what}", hint="it is not asked for again", reason=reason, permanent=True
    )
