"""One HTTP server on loopback that stands in for Unsplash, Flickr and their image hosts.

Loopback only, keep-alive, one thread per connection. It records what a test may want to check: requests in order,
tracked downloads, and the ground truth of every picture.
"""

from __future__ import annotations

import errno
import html
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lhq.errors import UserError
from lhq.sandbox import flickr, papers, scenes, unsplash
from lhq.sandbox.gallery import Folder, Gallery, Painted, Renditions
from lhq.sandbox.speech import Answer, Quota, Request, whole

_ROBOTS = b"User-agent: *\nDisallow: /private/\n"
_FORM_LIMIT = 1 << 20
_RATE_WINDOW_S = 3600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that the server answered."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...]
    status: int
    sent_bytes: int
    user_agent: str


class Sandbox:
    """The offline services, as a context manager: `with Sandbox(port=0) as box: requests.get(box.url)`.

    The Unsplash API is at `{url}/unsplash`, Flickr's REST endpoint at `{url}/flickr/services/rest/`. Any non-empty
    key except `expired` is accepted.

    Args:
        photos: a folder of pictures, or several; None: `num_scenes` painted scenes of `seed`.
        port: 0 picks a free one.
        rate_limit: Unsplash calls per key and hour; `flickr_rate_limit` the same for Flickr.

    Raises:
        InputError: a folder is missing or empty.
        UserError: the port is in use (on entering).
    """

    def __init__(
        self,
        photos: str | Path | Sequence[str | Path] | None = None,
        seed: int = 0,
        num_scenes: int = 300,
        port: int = 8210,
        *,
        rate_limit: int = 5000,
        flickr_rate_limit: int = 3600,
    ) -> None:
        folders = [photos] if isinstance(photos, (str, Path)) else list(photos or [])
        self._gallery: Gallery
        if folders:
            self._gallery = Folder([Path(folder) for folder in folders])
        else:
            self._gallery = Painted(seed, num_scenes)
        self._renditions = Renditions(self._gallery)
        self._seed = seed
        self._port = port
        self._quotas = Quota(rate_limit, _RATE_WINDOW_S), Quota(flickr_rate_limit, _RATE_WINDOW_S)
        self._server: _Server | None = None
        self._lock = threading.Lock()
        self.requests: deque[Seen] = deque(maxlen=200_000)
        self.counts: Counter[str] = Counter()
        """Requests by path, without their query strings."""

    def __enter__(self) -> Sandbox:
        try:
            self._server = _Server(("127.0.0.1", self._port), self)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise UserError(
                f"port {self._port} of 127.0.0.1 can't be opened ({error.strerror})",
                hint="is a sandbox running already? stop it, or choose another --port (0: any free one)",
            ) from None
        except OverflowError:
            raise UserError(f"port {self._port} is no port", hint="choose one from 0 to 65535") from None
        self._papers = [papers.write(picture, self._seed) for picture in self._gallery.pictures]
        self._ids = {f"unsplash:{one.unsplash_id}": one.picture.index for one in self._papers if one.on_unsplash}
        self._ids |= {f"flickr:{one.flickr_id}": one.picture.index for one in self._papers if one.on_flickr}
        self.unsplash = unsplash.Unsplash(self._papers, self._quotas[0], self.url)
        self.flickr = flickr.Flickr(self._papers, self._quotas[1], self.url)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sandbox", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering and drop every connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop()
            self._server = None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1]) if self._server else self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def downloads(self) -> Counter[str]:
        """Tracked downloads by Unsplash photo id."""
        return self.unsplash.downloads

    @property
    def ids(self) -> Mapping[str, int]:
        """Every photo id (`unsplash:…`, `flickr:…`) → index of its picture."""
        return self._ids

    def truth(self, photo_id: str) -> scenes.Scene | None:
        """The ground truth of a painted picture; None for real ones and unknown ids."""
        index = self._ids.get(photo_id)
        return None if index is None else self._gallery.pictures[index].truth

    def respond(self, request: Request) -> Answer:
        """The answer to any request."""
        path = request.path
        if path.startswith("/unsplash/"):
            return self.unsplash.answer(request, path.removeprefix("/unsplash"))
        if path.rstrip("/") == "/flickr/services/rest":
            return self.flickr.answer(request)
        if path.startswith("/images/"):
            return self._image(request)
        if path == "/robots.txt":
            return Answer(200, _ROBOTS, "text/plain")
        if path.startswith("/photos/"):
            return self._page(path)
        if path == "/":
            return self._front(request)
        return Answer(404, b"Not Found", "text/plain")

    def _image(self, request: Request) -> Answer:
        parts = request.path.split("/")[2:]
        width = height = None
        format, quality = None, 85
        if parts[0] == "unsplash" and len(parts) == 2:
            one = self.unsplash.photo(parts[1].removeprefix("photo-"))
            params = request.params
            width, height = whole(params.get("w"), 0, 0, 20_000) or None, whole(params.get("h"), 0, 0, 20_000) or None
            format = {"jpg": "jpeg", "pjpg": "jpeg", "png": "png", "webp": "webp"}.get(params.get("fm", ""))
            quality = whole(params.get("q"), 85, 1, 100)
        elif parts[0] == "flickr" and len(parts) == 3 and (asked := flickr.image(parts[2])):
            one = self.flickr.photo(asked[0])
            if one and asked[1] != (one.secret if asked[2] and asked[2] <= 1024 else one.secret_original):
                one = None
            width = height = asked[2]
        else:
            one = None
        if one is None:
            return Answer(404, b"Not Found", "text/plain")
        tag = f'"{one.picture.stamp}-{width}-{height}-{format}-{quality}"'
        headers = {"ETag": tag, "Cache-Control": "public, max-age=31536000"}
        if tag in request.headers.get("if-none-match", ""):
            return Answer(304, b"", "", headers)
        blob = self._renditions.get(one.picture.index, width, height, format, quality)
        return Answer(200, blob.data, blob.content_type, headers)

    def _page(self, path: str) -> Answer:
        service, _, photo_id = path.removeprefix("/photos/").partition("/")
        photo_id = photo_id.split("/")[0]
        one = self.unsplash.photo(photo_id) if service == "unsplash" else self.flickr.photo(photo_id)
        if one is None:
            return Answer(404, b"Not Found", "text/plain")
        body = (
            f"<h1>{html.escape(one.picture.title)}</h1><p>by {html.escape(one.author)}, {one.created_at}</p>"
            f'<img src="{self._thumb(one, 1080)}" width="1080">'
        )
        return _html(one.picture.title, body)

    def _thumb(self, one: papers.Papers, width: int) -> str:
        if one.on_unsplash:
            return f"/images/unsplash/photo-{one.unsplash_id}?w={width}&amp;fm=jpg"
        return f"/images/flickr/65535/{one.flickr_id}_{one.secret}_{'n' if width <= 400 else 'b'}.jpg"

    def _front(self, request: Request) -> Answer:
        """A contact sheet for people."""
        start = whole(request.params.get("from"), 0, 0, len(self._papers))
        shown = self._papers[start : start + 60]
        tiles = []
        for one in shown:
            service, photo_id = ("unsplash", one.unsplash_id) if one.on_unsplash else ("flickr", one.flickr_id)
            scene = one.picture.truth
            note = f"{scene.kind} {scene.change}" if scene else one.picture.title
            tiles.append(
                f'<a href="/photos/{service}/{photo_id}"><img loading="lazy" src="{self._thumb(one, 320)}" '
                f'width="240"><br>{html.escape(note)}</a>'
            )
        more = f'<p><a href="/?from={start + 60}">more</a></p>' if start + 60 < len(self._papers) else ""
        return _html(f"lhq sandbox: {len(self._papers)} pictures", "<h1>lhq sandbox</h1>" + "\n".join(tiles) + more)

    def note(self, request: Request, answer: Answer) -> None:
        """Record one answered request."""
        seen = Seen(
            request.method,
            request.path,
            tuple(request.params.items()),
            answer.status,
            len(answer.body),
            request.headers.get("user-agent", ""),
        )
        with self._lock:
            self.requests.append(seen)
            self.counts[request.path] += 1


def _html(title: str, body: str) -> Answer:
    style = "body{font:14px sans-serif;margin:2em;background:#fafafa}a{display:inline-block;margin:4px;color:#333}"
    page = f"<!DOCTYPE html><meta charset=utf-8><title>{html.escape(title)}</title><style>{style}</style>{body}"
    return Answer(200, page.encode(), "text/html; charset=utf-8")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], box: Sandbox) -> None:
        self.box = box
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def drop(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client closed it

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "lhq-sandbox"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 120
    server: _Server

    def do_GET(self) -> None:
        self._serve(b"")

    def do_HEAD(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = whole(self.headers.get("Content-Length"), 0, 0, _FORM_LIMIT + 1)
        if length > _FORM_LIMIT:
            self.close_connection = True
            self._send(Answer(413, b"Payload Too Large", "text/plain"))
            return
        self._serve(self.rfile.read(length))

    def _serve(self, form: bytes) -> None:
        parts = urlsplit(self.path)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        if form and "form-urlencoded" in self.headers.get("Content-Type", ""):
            params |= parse_qsl(form.decode("utf-8", "replace"), keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(parts.path), params, headers)
        try:
            answer = self.server.box.respond(request)
        except Exception:
            self.close_connection = True
            self._send(Answer(500, b"Internal Server Error", "text/plain"))
            raise
        self.server.box.note(request, answer)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD" and answer.status != 304:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: `Sandbox.requests` is the log."""
