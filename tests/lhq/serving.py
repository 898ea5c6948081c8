"""A server of pictures on loopback whose answers a test decides."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lhq.config import HttpSettings


class Pictures:
    """What is served: path → bytes, or a status, or (status, headers). `asked` counts requests a path."""

    def __init__(self, host: str) -> None:
        self.host, self.url = host, f"http://{host}"
        self.answers: dict[str, bytes | int | tuple[int, dict[str, str]]] = {}
        self.asked: Counter[str] = Counter()

    def settings(self) -> HttpSettings:
        return HttpSettings(allow_hosts=(self.host,), robots=False, max_attempts=2, retry_delay_s=0.01)


@contextmanager
def serving() -> Iterator[Pictures]:
    """A running server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pictures.asked[self.path] += 1
            answer = pictures.answers.get(self.path, 404)
            body = answer if isinstance(answer, bytes) else b""
            status, headers = answer if isinstance(answer, tuple) else (200 if body else answer, {})
            self.send_response(status)  # type: ignore[arg-type]
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pictures = Pictures(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield pictures
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
