"""Row groups → endless uint8 batches: read ahead, decoded by threads, resumable to the exact image.

One thread follows the order and requests pools of encoded rows (a lane's next pool while this one is in use); a thread
pool decodes directly into the batch's memory. The picture at position p depends only on the seed and p. A row that
can't be decoded is counted, logged once, and replaced by the next row of the pool; so are the rows of a row group that
can't be read after three tries, and rows that are known to kill their decoder (`alis.data.crashes`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from alis.data.catalogue import Catalogue
from alis.data.decode import BadImage, Fit, WrongSize, decode_into
from alis.data.decode_notes import ROWS_A_NOTE, DecodeNotes, Note
from alis.data.encoded_rows import EncodedRows
from alis.data.order import Order, Pool
from alis.errors import DataError, InputError
from alis.ops.malloc import keep_freed_memory

log = logging.getLogger("alis")
MAX_BAD_IN_A_ROW = 32
_TRIES = 3
_PATIENCE_S = 60.0
"""Decoding a picture takes milliseconds, and of 200 million pixels seconds."""
_Work = list[tuple[tuple[EncodedRows, int], np.ndarray, int]]
"""For each picture: (its pool, its index there), where it is decoded to, its position."""


@dataclass(frozen=True)
class RankSlice:
    """Which images of each step this process reads.

    A step of `batch` images is split into `batch // micro` microbatches; process `rank` of `world` reads j = rank,
    rank + world, …

    Raises:
        InputError: the batch is not a whole number of microbatches for every process.
    """

    batch: int
    micro: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch % self.micro or (self.batch // self.micro) % self.world:
            raise InputError(
                f"a batch of {self.batch} is not a whole number of microbatches of {self.micro} "
                f"for {self.world} processes",
                hint="batch must be a multiple of micro × processes",
            )

    def positions(self, start: int) -> Iterator[list[int]]:
        """This process's microbatches of the step that starts at a position, as lists of positions."""
        num_micro = self.batch // self.micro
        for j in range(self.rank, num_micro, self.world):
            yield [start + j + num_micro * i for i in range(self.micro)]


@dataclass(frozen=True)
class ReadOptions:
    """How pictures are read: shuffling, resizing, threads and memory."""

    seed: int = 0
    """Of the shuffled order."""
    fit: Fit = "resize"
    """What to do with pictures of other sizes."""
    threads: int = 2
    """Number of decoding threads."""
    ahead: int = 4
    """Microbatches decoded in advance."""
    buffer_mb: int = 512
    """Size of the shuffle buffer of encoded pictures; a larger one shuffles more widely."""
    num_lanes: int | None = None
    """Lanes of the order; None: up to eight, if there are enough row groups."""
    pin: bool = False
    """Allocate batches in pinned memory, for faster copies to a GPU."""


class Loader:
    """Endless batches of uint8 pictures [micro, R, R, 3].

    Iterating yields, for each step of `share.batch` images, this process's microbatches in order; the images of a
    step do not depend on how many processes share it.

    Args:
        start: position of the first step: the number of images already seen.
        stop: end at this position (all processes together); None: never. The last microbatch may be short.

    `wait_s` is the time that callers have waited for data so far; `num_bad` and `bad` count and name unusable rows.

    Raises:
        InputError: fewer images than a batch (unless `stop` is given), or another size with fit="refuse".
        DataError: too many bad rows in a row.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        resolution: int,
        share: RankSlice,
        reading: ReadOptions | None = None,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        reading = reading or ReadOptions()
        if stop is None and catalogue.num_images < share.batch:
            raise InputError(
                f"{catalogue.address}: {catalogue.num_images} images, fewer than one batch of {share.batch}",
                hint="give more images, or a smaller --optim.batch",
            )
        self.catalogue, self.resolution, self.share, self.reading = catalogue, resolution, share, reading
        self.position, self.stop = start, stop
        self.order = Order(
            catalogue.group_rows,
            catalogue.group_bytes,
            reading.seed,
            reading.buffer_mb * 2**20,
            reading.num_lanes,
        )
        self.wait_s, self.num_bad, self.num_fitted = 0.0, 0, 0
        self.bad: dict[tuple[int, int], str] = {}
        self._lock = threading.Lock()
        self._pools: dict[tuple[int, int], tuple[int, Future[EncodedRows]]] = {}
        self._current: dict[int, tuple[int, int, int, EncodedRows]] = {}  # lane → (epoch, first row, end, pool) in use
        self._lost_groups: set[int] = set()
        self._replacements: dict[int, tuple[tuple[int, int], EncodedRows]] = {}
        if not reading.pin and keep_freed_memory():
            # A batch is 6 MB at 256 px; fresh memory pages for each would cost a tenth of the decoding. Rows are read
            # into the same heap: Arrow's own allocator took three times as long to fill the pools.
            pa.set_memory_pool(pa.system_memory_pool())
        guard = catalogue.crashes
        self._killers = guard.rows if guard is not None else {}
        self._notes = DecodeNotes(guard.folder if guard else None, catalogue.fingerprint, reading.threads)
        self._jobs: set[Future[None]] = set()
        self._now: dict[int, tuple[float, EncodedRows, int]] = {}  # thread → when it began a picture, and which
        self._decoders = ThreadPoolExecutor(reading.threads, thread_name_prefix="decode")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=reading.ahead)
        self._closed = threading.Event()
        self._walker = threading.Thread(target=self._walk, name="walk", daemon=True)
        self._walker.start()

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self

    def __next__(self) -> torch.Tensor:
        began = time.perf_counter()
        item = self._ready.get()
        if isinstance(item, BaseException):
            self._ready.put(item)
            raise item
        batch: torch.Tensor = item[0]
        jobs: list[Future[None]] = item[1]
        try:
            if wait(jobs, _PATIENCE_S).not_done:
                self._log_slow()
            for job in jobs:
                job.result()
        except WrongSize as error:
            raise InputError(str(error), hint="use --data.fit resize or crop, or another dataset") from None
        self.wait_s += time.perf_counter() - began
        return batch

    def close(self) -> None:
        """Stop the threads; batches that were decoded in advance are dropped."""
        self._closed.set()
        while not self._ready.empty():
            self._ready.get_nowait()
        self._walker.join(timeout=10)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._notes.close(is_idle=not wait(set(self._jobs), 10).not_done)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _walk(self) -> None:
        """Put (batch, decoding jobs) on the queue until the end or `close`."""
        try:
            while self.stop is None or self.position < self.stop:
                for positions in self.share.positions(self.position):
                    if self.stop is not None:
                        positions = [p for p in positions if p < self.stop]
                    if positions:
                        self._put(self._start(positions))
                self.position += self.share.batch
            self._put(StopIteration())
        except BaseException as error:  # handed to the caller's next()
            if not self._closed.is_set():
                self._put(error)

    def _put(self, item: Any) -> None:
        while not self._closed.is_set():
            try:
                return self._ready.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise RuntimeError("loader closed")

    def _start(self, positions: list[int]) -> tuple[torch.Tensor, list[Future[None]]]:
        """An empty batch, and the jobs that fill it."""
        size = self.resolution
        batch = torch.empty((len(positions), size, size, 3), dtype=torch.uint8, pin_memory=self.reading.pin)
        out = batch.numpy()
        work = [(self._rows(position), out[i], position) for i, position in enumerate(positions)]
        each = -(-len(work) // self.reading.threads)
        return batch, [self._submit(work[i : i + each]) for i in range(0, len(work), each)]

    def _submit(self, work: _Work) -> Future[None]:
        job = self._decoders.submit(self._decode, work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def _rows(self, position: int) -> tuple[EncodedRows, int]:
        """The pool that contains a position, and its index in the pool."""
        epoch, lane, row = self.order.place(position)
        here = self._current.get(lane)
        if here is not None and here[0] == epoch and here[1] <= row < here[2]:
            return here[3], row - here[1]
        pools, starts = self.order.pools(epoch, lane)
        number = int(np.searchsorted(starts, row, side="right")) - 1
        rows = self._fetch(epoch, lane, number).result()
        ahead = (epoch, number + 1) if number + 1 < len(pools) else (epoch + 1, 0)
        if self.stop is None or ahead[0] == epoch:
            self._fetch(ahead[0], lane, ahead[1])
        if not len(rows):
            return self._replacement(epoch, lane, number), row
        self._current[lane] = (epoch, int(starts[number]), int(starts[number + 1]), rows)
        return rows, row - int(starts[number])

    def _replacement(self, epoch: int, lane: int, lost: int) -> EncodedRows:
        """The lane's next readable pool, to replace pool number `lost`, none of whose groups can be read."""
        if lane in self._replacements and self._replacements[lane][0] == (epoch, lost):
            return self._replacements[lane][1]
        pools = self.order.pools(epoch, lane)[0]
        for step in range(1, len(pools)):
            rows = self._read(pools[(lost + step) % len(pools)])
            if len(rows):
                self._replacements[lane] = ((epoch, lost), rows)
                return rows
        raise DataError(
            f"{self.catalogue.address}: none of {len(pools)} pools of rows can be read",
            hint="see the warnings above; export or download the dataset again",
        )

    def _fetch(self, epoch: int, lane: int, number: int) -> Future[EncodedRows]:
        """The rows of a pool, read in the background; a lane keeps this pool and the next."""
        key = (lane, epoch * 1_000_003 + number)
        if key not in self._pools:
            pool = self.order.pools(epoch, lane)[0][number]
            self._pools[key] = (lane, self._readers.submit(self._read, pool))
            mine = [k for k in self._pools if k[0] == lane]
            for old in sorted(mine)[:-2]:
                del self._pools[old]
        return self._pools[key][1]

    def _read(self, pool: Pool) -> EncodedRows:
        pieces = []
        for group, first, last in pool.pieces:
            rows = self._read_group(group)
            if rows is not None:
                pieces.append((group, first, rows.slice(first, last - first)))
        return EncodedRows(pool, pieces)

    def _read_group(self, group: int) -> pa.Array | None:
        """One row group, or None if it can't be read: logged once, and its rows counted as bad."""
        if group in self._lost_groups:
            return None
        why: Exception
        tries = 1 if "file" in self.catalogue.fs.protocol else _TRIES  # retrying does not help on a local disk
        for attempt in range(tries):
            try:
                return self.catalogue.rows(group)
            except (FileNotFoundError, pa.ArrowInvalid) as error:  # retrying does not help
                why = error
                break
            except Exception as error:  # each remote filesystem has its own exception classes
                why = error
                if self._closed.wait(0.5 * 4**attempt if attempt + 1 < tries else 0):
                    break
        with self._lock:
            if group not in self._lost_groups:
                self._lost_groups.add(group)
                self.num_bad += int(self.catalogue.group_rows[group])
                name = self.catalogue.files[int(self.catalogue.group_file[group])]
                log.warning(
                    "%s: row group %d can't be read, its %d images are left out (%s)",
                    name,
                    int(self.catalogue.group_index[group]),
                    int(self.catalogue.group_rows[group]),
                    str(why).splitlines()[0] if str(why) else type(why).__name__,
                )
        return None

    def _decode(self, work: _Work) -> None:
        thread = threading.get_ident()
        try:
            with self._notes.of_thread() as note:
                for first in range(0, len(work), ROWS_A_NOTE):
                    part = work[first : first + ROWS_A_NOTE]
                    note([rows.at(index)[1] for (rows, index), _, _ in part])
                    for (rows, index), out, position in part:
                        self._now[thread] = time.monotonic(), rows, index
                        self._decode_one(rows, index, out, position, note)
        finally:
            self._now.pop(thread, None)

    def _decode_one(self, rows: EncodedRows, index: int, out: np.ndarray, position: int, note: Note) -> None:
        """Decode the picture of a position, or the next good one."""
        for step in range(MAX_BAD_IN_A_ROW):
            data, key = rows.at(index + step)
            try:
                if data is None:
                    raise BadImage("no bytes")
                if key in self._killers:
                    raise BadImage(f"it kills its decoder ({self._killers[key].how})")
                if step:
                    note([key])
                if decode_into(data, out, self.reading.fit, _chance(self.reading.seed, position)):
                    self._log_resized(rows.name(index + step, self.catalogue))
                return
            except WrongSize as error:
                raise WrongSize(f"{rows.name(index + step, self.catalogue)}: {error}") from None
            except BadImage as error:
                self._log_bad(key, rows.name(index + step, self.catalogue), str(error))
        raise DataError(
            f"{rows.name(index, self.catalogue)}: {MAX_BAD_IN_A_ROW} consecutive rows are not pictures",
            hint="is this the right column? choose one with --data.column",
        )

    def _log_slow(self) -> None:
        """Name the pictures that have been decoded for too long."""
        for began, rows, index in list(self._now.values()):
            if time.monotonic() - began > _PATIENCE_S / 2:
                log.warning(
                    "%s: not decoded after %.0f s; if it never is, kill this process (kill -9) and run the same "
                    "command again: it tries that picture for a minute and leaves it out",
                    rows.name(index, self.catalogue),
                    time.monotonic() - began,
                )

    def _log_resized(self, name: str) -> None:
        with self._lock:
            self.num_fitted += 1
            if self.num_fitted == 1:
                size = self.resolution
                log.warning("%s is not %d×%d px: such images are resized (%s)", name, size, size, self.reading.fit)

    def _log_bad(self, key: tuple[int, int], name: str, why: str) -> None:
        with self._lock:
            if key not in self.bad and len(self.bad) < 10_000:
                self.bad[key] = f"{name}: {why}"
                self.num_bad += 1
                if len(self.bad) <= 20:
                    log.warning(
                        "bad image left out: %s: %s%s",
                        name,
                        why,
                        " (further ones are not logged)" * (len(self.bad) == 20),
                    )


def _chance(seed: int, position: int) -> float:
    """A random number in [0, 1), a function of (seed, position): splitmix64's finaliser."""
    x = (position + 0x9E3779B97F4A7C15 * (seed + 1)) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return ((x ^ (x >> 31)) >> 11) / 2**53
