"""Requested tiles → WebP bytes: one queue and one device for all viewers.

Tiles requested at the same time are painted in one batch, even if they are of different viewers and sketches. The
queue is bounded (`Busy` when it is full), a tile requested twice is painted once, a tile that nobody waits for any more
is dropped, and finished tiles are cached, up to a limit in bytes.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image

from alis.formats import Pixels
from alis.painting.panorama import Panorama, paint
from alis.plane.anchors import Sketch

_QUALITY = 90
_SKETCHES = 512
_SUSPECTS = 1024
Key = tuple[Sketch, int]


class Busy(Exception):
    """The queue is full; try again in a moment."""


@dataclass
class Stats:
    """Counts since the painter started."""

    hits: int = 0
    joined: int = 0
    painted: int = 0
    batches: int = 0
    refused: int = 0
    dropped: int = 0
    broken: int = 0


@dataclass
class _Job:
    plane: Panorama
    k: int
    waiters: set[asyncio.Future[bytes]] = field(default_factory=set)


class Painter:
    """Paints tiles on one thread.

    Args:
        panorama: the model's plane; each tile is painted with its own sketch instead of this one's.
        queue_tiles: largest number of tiles waiting.
        batch: largest number of tiles in one batch.
        cache_bytes: largest total size of cached tiles.
    """

    def __init__(
        self, panorama: Panorama, *, queue_tiles: int = 256, batch: int | None = None, cache_bytes: int = 256 << 20
    ) -> None:
        self.panorama, self.queue_tiles, self.cache_bytes = panorama, queue_tiles, cache_bytes
        self.batch = batch or panorama.batch
        self.stats = Stats()
        self.plane = lru_cache(maxsize=_SKETCHES)(self._plane)
        self._device = threading.Lock()
        self._wanted = threading.Condition()
        self._waiting: OrderedDict[Key, _Job] = OrderedDict()
        self._painting: dict[Key, _Job] = {}
        self._suspects: OrderedDict[Key, None] = OrderedDict()
        self._done: OrderedDict[Key, bytes] = OrderedDict()
        self._done_bytes = 0
        self._open = True
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="alis-encode")
        self._thread = threading.Thread(target=self._work, name="alis-paint", daemon=True)
        self._thread.start()

    def _plane(self, sketch: Sketch) -> Panorama:
        return self.panorama.with_sketch(sketch)

    @property
    def num_waiting(self) -> int:
        """Number of tiles in the queue."""
        return len(self._waiting)

    @property
    def num_cached(self) -> tuple[int, int]:
        """Number of tiles in the cache, and their bytes."""
        return len(self._done), self._done_bytes

    def request(self, sketch: Sketch, k: int) -> asyncio.Future[bytes]:
        """A future of the tile's WebP bytes; cancel it when the tile is no longer needed.

        Raises:
            Busy: the queue is full.
            InputError: the sketch uses codes or clusters that the model does not have.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        plane, key = self.plane(sketch), (sketch, k)
        with self._wanted:
            if key in self._done:
                self._done.move_to_end(key)
                self.stats.hits += 1
                future.set_result(self._done[key])
                return future
            job = self._painting.get(key) or self._waiting.get(key)
            if job:
                self.stats.joined += 1
            elif len(self._waiting) >= self.queue_tiles or not self._open:
                self.stats.refused += 1
                raise Busy
            else:
                job = self._waiting[key] = _Job(plane, k)
            job.waiters.add(future)
            self._wanted.notify()
        future.add_done_callback(lambda done: self._drop_if_cancelled(key, done))
        return future

    def _drop_if_cancelled(self, key: Key, future: asyncio.Future[bytes]) -> None:
        """Forget a waiter that cancelled; remove a tile that nobody waits for from the queue."""
        with self._wanted:
            job = self._waiting.get(key)
            if future.cancelled() and job and future in job.waiters:
                job.waiters.discard(future)
                if not job.waiters:
                    del self._waiting[key]
                    self.stats.dropped += 1

    def warm(self, ks: Iterable[int]) -> None:
        """Queue these tiles of the page's first plane before the first viewer comes, so that they are ready in time."""
        with self._wanted:
            for k in ks:
                self._waiting[self.panorama.sketch, k] = _Job(self.panorama, k)
            self._wanted.notify()

    def blocks(self, sketch: Sketch, start: int, stop: int) -> Iterator[Pixels]:
        """A strip's pieces [R, w, 3], painted between batches of tiles."""
        pieces = self.plane(sketch).blocks(start, stop)
        while True:
            with self._device:
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """Stop painting; requests that are still waiting get `Busy`."""
        with self._wanted:
            self._open = False
            left = [*self._waiting.values(), *self._painting.values()]
            self._waiting.clear()
            self._wanted.notify()
        for job in left:
            _settle(job, Busy())
        self._thread.join(timeout=30)
        self._encoders.shutdown()

    def _work(self) -> None:
        while True:
            with self._wanted:
                while self._open and not self._waiting:
                    self._wanted.wait()
                if not self._open:
                    return
                jobs = self._next()
                self._painting.update(jobs)
            self._paint(jobs)

    def _next(self) -> list[tuple[Key, _Job]]:
        """The next batch, longest waiting first. A tile that failed before is painted alone, to spare its batch."""
        first = next(iter(self._waiting))
        if first in self._suspects:
            return [(first, self._waiting.pop(first))]
        keys = [key for key in self._waiting if key not in self._suspects][: self.batch]
        return [(key, self._waiting.pop(key)) for key in keys]

    def _paint(self, jobs: list[tuple[Key, _Job]]) -> None:
        try:
            with self._device:
                tiles = paint([(job.plane, job.k) for _, job in jobs])
            files = list(self._encoders.map(_encoded, tiles))
        except Exception as error:
            # One tile's failure must not fail the batch or stop the painter: halving the batch isolates it.
            if len(jobs) > 1:
                self._paint(jobs[: len(jobs) // 2])
                self._paint(jobs[len(jobs) // 2 :])
            else:
                self._give_up(*jobs[0], error)
            return
        with self._wanted:
            self.stats.painted += len(jobs)
            self.stats.batches += 1
            for (key, _), data in zip(jobs, files, strict=True):
                self._painting.pop(key, None)
                self._done[key] = data
                self._done_bytes += len(data)
            while self._done_bytes > self.cache_bytes:
                self._done_bytes -= len(self._done.popitem(last=False)[1])
        for (_, job), data in zip(jobs, files, strict=True):
            _settle(job, data)

    def _give_up(self, key: Key, job: _Job, error: Exception) -> None:
        with self._wanted:
            self.stats.broken += 1
            self._painting.pop(key, None)
            self._suspects[key] = None
            while len(self._suspects) > _SUSPECTS:
                self._suspects.popitem(last=False)
        _settle(job, error)


def _encoded(tile_HwC: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(tile_HwC).save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def _settle(job: _Job, outcome: bytes | Exception) -> None:
    """Set the result or exception of every waiter's future, each on its own event loop."""

    def tell(future: asyncio.Future[bytes]) -> None:
        if not future.done():
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    for future in job.waiters:
        try:
            future.get_loop().call_soon_threadsafe(tell, future)
        except RuntimeError:
            continue  # the waiter's event loop is closed: its server has stopped
