"""Addresses → answers: the page, the model's facts, tiles, and strips to take home.

    /                                          the page
    /model.json                                sizes, clusters, saved codes, limits
    /tile/{seed}/{edits}/{k}.webp              patch column k of a plane (`alis.plane.anchors.Sketch.text`)
    /strip/{seed}/{edits}/{start}/{stop}.png   pixel columns start … stop − 1; .jpg and .webp too
    /stats.json                                queue, cache, batches

A tile is a pure function of model and address, so its ETag is known without painting it. An address that can't mean
a tile is 404, a full queue is 503 with Retry-After; nothing a stranger types is a 500.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alis import formats
from alis.errors import AlisError, InputError
from alis.formats import Pixels
from alis.painting import picture_writer, strip
from alis.painting.panorama import Panorama, precision_of
from alis.plane.anchors import MAX_ANCHOR, MAX_EDITS, MAX_SEED, Sketch
from alis.web.painter import Busy, Painter

PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_EVER, _ASK = "public, max-age=31536000, immutable", "no-cache"
_POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
_LOOK_S = 0.2
_RETRY_S = 1


class Gate:
    """Limits before anything is read: longest address, most requests of one viewer at a time."""

    def __init__(self, app: ASGIApp, *, max_address: int = 6000, per_viewer: int = 128) -> None:
        self.app, self.max_address, self.per_viewer = app, max_address, per_viewer
        self.inside: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        viewer = scope["client"][0] if scope.get("client") else ""
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self.max_address:
            await _refusal(414, "this address is too long", "edit fewer anchors")(scope, receive, send)
            return
        if self.inside.get(viewer, 0) >= self.per_viewer:
            await _refusal(429, "too many requests at once", "wait a moment")(scope, receive, send)
            return
        self.inside[viewer] = self.inside.get(viewer, 0) + 1

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        try:
            await self.app(scope, receive, dressed)
        finally:
            self.inside[viewer] -= 1
            if not self.inside[viewer]:
                del self.inside[viewer]


def create(
    panorama: Panorama,
    *,
    name: str = "alis",
    max_frames: int = 128,
    per_viewer: int = 128,
    painter: Painter | None = None,
) -> FastAPI:
    """The application.

    Args:
        panorama: the model's plane; its sketch is where the page starts.
        name: what the page calls the model.
        max_frames: widest strip to take home, in frames.
        per_viewer: most requests of one address at a time.
    """
    model = f"{strip.fingerprint(panorama.g)}-{precision_of(panorama.g)}".removesuffix("-float32")
    painter = painter or Painter(panorama)
    taking = threading.BoundedSemaphore(1)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(painter.close)

    app = FastAPI(title="alis", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    app.state.painter = painter
    app.add_middleware(Gate, per_viewer=per_viewer)

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        return _refusal(error.status_code, str(error.detail), "see / for what is here")

    @app.exception_handler(AlisError)
    async def refused(request: Request, error: AlisError) -> Response:
        return _refusal(404 if isinstance(error, InputError) else 500, error.message, error.hint)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        return _refusal(503, "the painter is busy", "try again in a moment")

    files = {f"/{path.name}": path for path in PAGE.iterdir() if path.suffix in _TYPES}
    files["/"] = files.pop("/index.html")

    def page(path: Path) -> Callable[[Request], Awaitable[Response]]:
        body = path.read_bytes()
        tag = f'"{hashlib.blake2s(body, digest_size=8).hexdigest()}"'
        # Browsers look for the icon again whenever the address changes, which it does as one wanders.
        keep = "public, max-age=86400" if path.suffix == ".svg" else _ASK

        async def serve(request: Request) -> Response:
            return _tagged(request, tag, keep) or Response(
                body, media_type=_TYPES[path.suffix], headers={"ETag": tag, "Cache-Control": keep}
            )

        return serve

    for address, path in files.items():
        app.add_api_route(address, page(path), methods=["GET", "HEAD"])

    @app.api_route("/model.json", methods=["GET", "HEAD"])
    async def facts() -> Response:
        config, centres = panorama.g.config, panorama.book.centres_KS
        table = {
            "name": name,
            "model": model,
            "resolution": config.resolution,
            "tile_px": panorama.tile_px,
            "anchor_tiles": config.anchor_patches,
            "ring_step": panorama.ring_step,
            "grid": config.grid_size,
            "start": panorama.sketch.text,
            "num_clusters": 0 if centres is None else len(centres),
            "codes": sorted(panorama.book.saved),
            "max_edits": MAX_EDITS,
            "max_frames": max_frames,
            "max_seed": MAX_SEED,
            "max_anchor": MAX_ANCHOR,
        }
        return JSONResponse(table, headers={"Cache-Control": _ASK})

    @app.api_route("/stats.json", methods=["GET", "HEAD"])
    async def stats() -> Response:
        tiles, size = painter.num_cached
        table = asdict(painter.stats) | {"waiting": painter.num_waiting, "cached_tiles": tiles, "cached_bytes": size}
        return JSONResponse(table, headers={"Cache-Control": "no-store"})

    @app.api_route("/tile/{seed}/{edits}/{tile}", methods=["GET", "HEAD"])
    async def tile(request: Request, seed: str, edits: str, tile: str) -> Response:
        found = re.fullmatch(r"(-?[0-9]{1,14})\.webp", tile)
        if not found or str(int(found[1])) != found[1]:
            raise InputError(f"{tile[:40]!r} is no tile", hint="an example is /tile/7/-/12.webp")
        sketch, k = Sketch.parse(f"{seed}/{edits}"), int(found[1])
        panorama.check_tile(k)
        painter.plane(sketch)
        tag = f'"{hashlib.blake2s(f"{model}/{sketch.text}/{k}".encode(), digest_size=8).hexdigest()}"'
        keep = _FOR_EVER if request.query_params.get("m") == model else _ASK
        if known := _tagged(request, tag, keep):
            return known
        future = painter.want(sketch, k)
        while not (await asyncio.wait({future}, timeout=_LOOK_S))[0]:
            if await request.is_disconnected():
                future.cancel()
                return Response(status_code=499)
        return Response(future.result(), media_type="image/webp", headers={"ETag": tag, "Cache-Control": keep})

    @app.get("/strip/{seed}/{edits}/{start}/{last}")
    async def take(request: Request, seed: str, edits: str, start: str, last: str) -> Response:
        found = re.fullmatch(r"(-?[0-9]{1,15}) (-?[0-9]{1,15})(\.png|\.jpg|\.webp)", f"{start} {last}")
        if not found:
            raise InputError("this is no strip", hint="an example is /strip/7/-/0/1024.png")
        sketch, left, right = Sketch.parse(f"{seed}/{edits}"), int(found[1]), int(found[2])
        if right - left > max_frames * panorama.height:
            raise InputError(
                f"{right - left} columns are too many", hint=f"take at most {max_frames * panorama.height}"
            )
        plan = strip.plan(painter.plane(sketch), width=right - left, start=left)
        path = Path(f"alis-{sketch.seed}-{left}-{right}{found[3]}")
        formats.check_size(path, plan.width, panorama.height)
        if not taking.acquire(blocking=False):
            raise Busy
        gone = threading.Event()

        def columns(done: int) -> Iterator[Pixels]:
            for piece in painter.blocks(sketch, left + done, right):
                if gone.is_set():
                    raise Busy
                yield piece

        def work() -> tempfile.TemporaryDirectory[str]:
            folder = tempfile.TemporaryDirectory(prefix="alis-strip-")
            try:
                picture_writer.write(
                    Path(folder.name) / path, columns, width=plan.width, height=panorama.height, note=plan.note.text
                )
            except BaseException:
                folder.cleanup()
                raise
            finally:
                taking.release()
            return folder

        working = asyncio.ensure_future(asyncio.to_thread(work))
        while not (await asyncio.wait({working}, timeout=_LOOK_S))[0]:
            if await request.is_disconnected():
                gone.set()
        folder = working.result()
        return FileResponse(Path(folder.name) / path, filename=path.name, background=BackgroundTask(folder.cleanup))

    return app


def _tagged(request: Request, tag: str, keep: str) -> Response | None:
    """304 if the viewer already holds this."""
    held = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": keep}) if tag in held else None


def _refusal(status: int, message: str, hint: str) -> JSONResponse:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": str(_RETRY_S)} if status in {429, 503} else {})
    return JSONResponse({"error": message, "hint": hint}, status_code=status, headers=headers)
