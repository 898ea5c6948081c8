"""Requested columns → a picture file to download: painted one at a time, between tiles; dropped if nobody waits."""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from alis import formats
from alis.errors import InputError
from alis.formats import Pixels
from alis.painting import picture_writer, strip
from alis.plane.anchors import Sketch
from alis.web.painter import Busy, Painter

DISCONNECT_CHECK_S = 0.2
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class StripRequest:
    """A requested strip, checked: it can be painted, and its format can hold its size."""

    sketch: Sketch
    plan: strip.StripPlan
    path: Path

    @property
    def headers(self) -> dict[str, str]:
        """The response headers, as far as they are known before painting."""
        return {
            "Content-Disposition": f'attachment; filename="{self.path.name}"',
            "Content-Type": _TYPES[self.path.suffix],
        }


class StripDownloads:
    """Paints and sends strips of a painter's plane.

    Args:
        max_frames: largest width of a strip, in frames.
    """

    def __init__(self, painter: Painter, max_frames: int) -> None:
        self.painter, self.max_frames = painter, max_frames
        self._one = threading.BoundedSemaphore(1)

    def parse(self, seed: str, edits: str, start: str, last: str) -> StripRequest:
        """The strip that the parts of a URL name.

        Raises:
            InputError: not a strip's URL, or a strip that can't be painted.
        """
        found = re.fullmatch(r"(-?[0-9]{1,15}) (-?[0-9]{1,15})(\.png|\.jpg|\.webp)", f"{start} {last}")
        if not found:
            raise InputError("this is not the address of a strip", hint="an example is /strip/7/-/0/1024.png")
        height = self.painter.panorama.height
        sketch, left, right = Sketch.parse(f"{seed}/{edits}"), int(found[1]), int(found[2])
        if right <= left:
            raise InputError(
                f"columns {left} to {right} are an empty strip",
                hint=f"an example is /strip/7/-/{left}/{left + height}.png",
            )
        if right - left > self.max_frames * height:
            raise InputError(f"{right - left} columns are too many", hint=f"take at most {self.max_frames * height}")
        plan = strip.plan(self.painter.plane(sketch), width=right - left, start=left)
        path = Path(f"alis-{sketch.seed}-{left}-{right}{found[3]}")
        formats.check_size(path, plan.width, height)
        return StripRequest(sketch, plan, path)

    async def respond(self, request: Request, wanted: StripRequest) -> Response:
        """Paint the strip and send it; a HEAD request gets the headers and nothing is painted.

        Raises:
            Busy: another strip is being painted.
        """
        if request.method == "HEAD":
            response = Response(headers=wanted.headers)
            # The file's length is not known before it is painted, and 0 would be wrong.
            del response.headers["content-length"]
            return response
        if not self._one.acquire(blocking=False):
            raise Busy
        gone = threading.Event()
        working = asyncio.ensure_future(asyncio.to_thread(self._paint, wanted, gone))
        while not (await asyncio.wait({working}, timeout=DISCONNECT_CHECK_S))[0]:
            if await request.is_disconnected():
                gone.set()
        folder = working.result()
        return FileResponse(
            Path(folder.name) / wanted.path,
            filename=wanted.path.name,
            media_type=_TYPES[wanted.path.suffix],
            background=BackgroundTask(folder.cleanup),
        )

    def _paint(self, wanted: StripRequest, gone: threading.Event) -> tempfile.TemporaryDirectory[str]:
        plan = wanted.plan

        def columns(done: int) -> Iterator[Pixels]:
            for piece in self.painter.blocks(wanted.sketch, plan.start + done, plan.start + plan.width):
                if gone.is_set():
                    raise Busy
                yield piece

        try:
            folder = tempfile.TemporaryDirectory(prefix="alis-strip-")
            try:
                picture_writer.write(
                    Path(folder.name) / wanted.path,
                    columns,
                    width=plan.width,
                    height=plan.panorama.height,
                    note=plan.note.text,
                )
            except BaseException:
                folder.cleanup()
                raise
            return folder
        finally:
            self._one.release()
