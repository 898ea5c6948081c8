"""The web application: the page, the model's `model.json`, tiles, and strips to download.

    /                                          the page
    /model.json                                sizes, clusters, saved codes, limits
    /tile/{seed}/{edits}/{k}.webp              patch column k of a plane (`alis.plane.anchors.Sketch.text`)
    /strip/{seed}/{edits}/{start}/{stop}.png   pixel columns start … stop − 1; .jpg and .webp too
    /stats.json                                queue, cache, batches

A tile is a pure function of the model and its URL, so its ETag is known without painting it. A URL that names no tile
gets 404, a full queue 503 with Retry-After; no URL can cause a 500.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from alis.errors import AlisError, InputError
from alis.painting.panorama import Panorama
from alis.plane.anchors import Sketch
from alis.web.middleware import RequestFilter
from alis.web.page_info import page_info
from alis.web.painter import Busy, Painter
from alis.web.responses import IMMUTABLE, REVALIDATE, CachedText, error_response, etag_of, not_modified
from alis.web.strip_downloads import DISCONNECT_CHECK_S, StripDownloads

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BOTH = ["GET", "HEAD"]


def create(
    panorama: Panorama,
    *,
    name: str = "alis",
    max_frames: int = 128,
    per_viewer: int = 128,
    hosts: Collection[str] = (),
    painter: Painter | None = None,
) -> FastAPI:
    """Create the application.

    Args:
        panorama: the model's plane; the page starts with its sketch.
        name: the model's name on the page.
        max_frames: largest width of a strip to download, in frames.
        per_viewer: largest number of concurrent requests of one viewer.
        hosts: allowed host names; empty = any.
        painter: paints the tiles; by default a new one for `panorama`.
    """
    painter = painter or Painter(panorama)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(painter.close)

    app = FastAPI(title="alis", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    app.state.painter = painter
    app.add_middleware(RequestFilter, per_viewer=per_viewer, hosts=tuple(hosts))
    info = page_info(panorama, name=name, max_frames=max_frames)
    _handle_errors(app)
    _serve_page(app, CachedText(info.json_text.encode(), "application/json"))
    _serve_stats(app, painter)
    _serve_tiles(app, painter, info.model)
    _serve_strips(app, StripDownloads(painter, max_frames))
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return error_response(error.status_code, str(error.detail), "the page is at /", error.headers)

    @app.exception_handler(AlisError)
    async def alis_error(request: Request, error: AlisError) -> Response:
        return error_response(404 if isinstance(error, InputError) else 500, error.message, error.hint)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        return error_response(503, "the painter is busy", "try again in a moment")


def _serve_page(app: FastAPI, model: CachedText) -> None:
    def text(path: Path) -> CachedText:
        # Browsers request the icon again whenever the URL changes, and panning changes it all the time.
        cache_control = "public, max-age=86400" if path.suffix == ".svg" else REVALIDATE
        return CachedText(path.read_bytes(), TYPES[path.suffix], cache_control)

    def serve(some: CachedText) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            return some.respond(request)

        return respond

    texts = {f"/{path.name}": text(path) for path in PAGE.iterdir() if path.suffix in TYPES}
    texts["/"] = texts.pop("/index.html")
    texts["/model.json"] = model
    for address, some in texts.items():
        app.add_api_route(address, serve(some), methods=_BOTH)


def _serve_stats(app: FastAPI, painter: Painter) -> None:
    @app.api_route("/stats.json", methods=_BOTH)
    async def stats() -> Response:
        tiles, size = painter.num_cached
        table = asdict(painter.stats) | {"waiting": painter.num_waiting, "cached_tiles": tiles, "cached_bytes": size}
        return JSONResponse(table, headers={"Cache-Control": "no-store"})


def _serve_tiles(app: FastAPI, painter: Painter, model: str) -> None:
    @app.api_route("/tile/{seed}/{edits}/{tile}", methods=_BOTH)
    async def tile(request: Request, seed: str, edits: str, tile: str) -> Response:
        found = re.fullmatch(r"(-?[0-9]{1,14})\.webp", tile)
        if not found or str(int(found[1])) != found[1]:
            raise InputError(f"{tile[:40]!r} is not a tile", hint="an example is /tile/7/-/12.webp")
        sketch, k = Sketch.parse(f"{seed}/{edits}"), int(found[1])
        painter.panorama.check_tile(k)
        painter.plane(sketch)
        tag = etag_of(f"{model}/{sketch.text}/{k}".encode())
        headers = {"Cache-Control": IMMUTABLE if request.query_params.get("m") == model else REVALIDATE}
        if known := not_modified(request, tag, headers):
            return known
        future = painter.request(sketch, k)
        while not (await asyncio.wait({future}, timeout=DISCONNECT_CHECK_S))[0]:
            if await request.is_disconnected():
                future.cancel()
                return Response(status_code=499)
        return Response(future.result(), media_type="image/webp", headers={"ETag": tag, **headers})


def _serve_strips(app: FastAPI, downloads: StripDownloads) -> None:
    @app.api_route("/strip/{seed}/{edits}/{start}/{last}", methods=_BOTH)
    async def strip(request: Request, seed: str, edits: str, start: str, last: str) -> Response:
        return await downloads.respond(request, downloads.parse(seed, edits, start, last))
