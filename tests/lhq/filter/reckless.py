"""Jobs that hand every JPEG to the scaled decoder, without checking their coding: a lossless one corrupts the heap."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import pyarrow as pa
import simplejpeg

from lhq.export.render import Picture
from lhq.export.render_job import RenderJob
from lhq.measures.size import Size
from lhq.records import Photo


def crash(data: bytes) -> None:
    """Whatever it takes: the heap is corrupted at the first try, and seen to be by the second at the latest."""
    if b"\xff\xc3" in data[:200]:
        for _ in range(50):
            simplejpeg.decode_jpeg(data, "RGBX", min_height=96, min_width=96, min_factor=1)


class Killer(bytes):
    """A photo's bytes that kill the process that they are sent to."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return signal.raise_signal, (signal.SIGSEGV,)


class RecklessSize(Size):
    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        for photo in photos:
            crash(photo.data)
        return super().measure(photos)


class RecklessRender(RenderJob):
    def rendered(self, data: bytes, sha256: str) -> Picture:
        crash(data)
        return super().rendered(data, sha256)
