"""Photo → upright pixels → batch: decoding runs ahead in helper processes, so that the model never waits, and a photo
that kills its decoder costs itself alone.

Pictures of one canvas go together: the canvas (sides rounded up) depends on the picture alone, so what a
model sees of it does not depend on its neighbours in the batch. JPEG is decoded at the smallest of the
scales 1/8, 1/4, 1/2, 1 that still covers the wanted size, which is most of the speed.
"""

from __future__ import annotations

import collections
import itertools
import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from lhq.errors import ImageError, RunError
from lhq.images import decode, max_pixels_limit, set_max_pixels
from lhq.processes import Died, HelperProcess
from lhq.records import Photo
from lhq.store.shards import Shards
from lhq.system import num_cores

log = logging.getLogger("lhq")
Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Fit:
    """The size of a model's input. The short side becomes `short_px`, unless the long side would exceed `long_px`,
    which then decides.
    """

    short_px: int
    long_px: int
    canvas_px: int = 64
    """Batches hold pictures whose sides are equal after rounding up to this."""
    square: Literal["no", "pressed", "cropped"] = "no"
    """A square of `short_px`: the whole picture resized, or its centre."""

    def size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height of the shown picture, at least 1."""
        if self.square != "no":
            return self.short_px, self.short_px
        short, long = max(1, min(width_px, height_px)), max(1, width_px, height_px)
        scale = min(self.short_px / short, self.long_px / long)
        return max(1, round(width_px * scale)), max(1, round(height_px * scale))

    def canvas(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The padded size of the shown picture."""
        width, height = self.size(width_px, height_px)
        return -(-width // self.canvas_px) * self.canvas_px, -(-height // self.canvas_px) * self.canvas_px


def pixels(photo: Photo, fit: Fit) -> Pixels:
    """The picture, upright, sRGB, fitted: uint8 [height, width, 3].

    Raises:
        ImageError: the bytes do not decode to their end.
    """
    # `decode` keeps twice the side it is asked for; once is enough for a model's bilinear look.
    image = decode(photo.data, short_side_px=max(1, fit.short_px // 2))
    width, height = image.size
    left, top = (max(0, width - height) / 2, max(0, height - width) / 2) if fit.square == "cropped" else (0, 0)
    box = (left, top, width - left, height - top)
    return np.array(image.resize(fit.size(width, height), Image.Resampling.BILINEAR, box, reducing_gap=3.0))


def _pixels(photo: Photo, fit: Fit, max_pixels: int) -> Pixels:
    set_max_pixels(max_pixels)
    return pixels(photo, fit)


_idle: queue.SimpleQueue[HelperProcess[[Photo, Fit, int], Pixels]] = queue.SimpleQueue()


def _pixels_by_helper(photo: Photo, fit: Fit) -> Pixels:
    """As `pixels`, decoded in one of this process's helpers, of which each calling thread has one at a time.

    Raises:
        ImageError: as `pixels`; `crashed` if decoding killed the helper.
    """
    try:
        helper = _idle.get_nowait()
    except queue.Empty:
        helper = HelperProcess(_pixels)
    try:
        done = helper(photo, fit, max_pixels_limit())
    finally:
        _idle.put(helper)
    if isinstance(done, Died):
        raise done.as_image_error
    return done


def stored_photos(shards: Shards, number: int, wanted: Callable[[str], bool]) -> Iterator[Photo]:
    """The photos of one shard whose id is wanted, in order, one in memory at a time.

    Raises:
        ShardDamaged: the shard can't be read.
    """
    papers = shards.read(number, ["id", "width_px", "height_px", "orientation"]).to_pylist()
    for row, data in zip(papers, shards.images(number), strict=True):
        if wanted(row["id"]):
            yield Photo(data=data, **row)


class Prefetcher:
    """Batches of pixels in canvas order, decoded ahead by as many helper processes as there are threads here.

    Args:
        fit: the size wanted.
        ahead: how many pictures may be decoded before they are asked for (the memory bound).
    """

    def __init__(self, fit: Fit, *, ahead: int, num_threads: int = 0) -> None:
        self.fit, self.ahead = fit, max(1, ahead)
        self.num_threads = num_threads or min(32, num_cores())

    def batches(self, photos: Sequence[Photo], batch: Callable[[], int]) -> Iterator[Batch]:
        """Every photo once, by canvas; `batch()` is asked before each batch, as it may shrink.

        A photo that can't be decoded comes as an `ImageError` in a batch of its own.
        """
        groups: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
        for index, photo in enumerate(photos):
            size = photo.width_px, photo.height_px
            groups[self.fit.canvas(*(size[::-1] if photo.orientation >= 5 else size))].append(index)
        order = [index for _, group in sorted(groups.items()) for index in group]
        ends = {group[-1] for group in groups.values()}
        waiting: collections.deque[tuple[int, Future[Pixels]]] = collections.deque()
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode") as pool:
            try:
                rest, ready = iter(order), Batch([], [], [])
                while True:
                    for index in itertools.islice(rest, self.ahead - len(waiting)):
                        waiting.append((index, pool.submit(_pixels_by_helper, photos[index], self.fit)))
                    if not waiting:
                        break
                    index, future = waiting.popleft()
                    try:
                        ready.images.append(future.result())
                        ready.rows.append(index)
                    except ImageError as error:
                        yield Batch([index], [], [error])
                    if ready.rows and (len(ready.rows) >= batch() or index in ends):
                        yield ready
                        ready = Batch([], [], [])
            finally:
                for _, future in waiting:
                    future.cancel()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one canvas and their pixels; or one row and its error."""

    rows: list[int]
    images: list[Pixels]
    errors: list[ImageError]


class Halving(Generic[T, R]):
    """A batch function that survives out-of-memory on the GPU: the batch is permanently halved, with one message. If
    a single picture does not fit, the run fails and not the row: the machine is too small for the setting.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], batch: int, what: str) -> None:
        self.run, self.batch, self.what = run, batch, what
        self._has_said = False

    def __call__(self, items: Sequence[T]) -> list[R]:
        """One result per item, in order.

        Raises:
            RunError: a single item does not fit.
        """
        import torch

        done: list[R] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + self.batch]
            try:
                done += self.run(part)
                continue
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise RunError(
                        f"{self.what}: the GPU's memory does not hold one picture ({str(error).splitlines()[0]})",
                        hint='lower its short_side_px, free the GPU, or set device = "cpu"',
                    ) from None
            # Outside the handler: the error's frames, and the tensors they hold, are gone by now.
            self.batch = len(part) // 2
            torch.cuda.empty_cache()
            if not self._has_said:
                log.warning(
                    "%s: GPU memory ran out at %d pictures; continuing with %d", self.what, len(part), self.batch
                )
                self._has_said = True
        return done
