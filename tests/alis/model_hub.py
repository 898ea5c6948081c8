"""The loopback Hub of the dataset tests, spoken to about models: the same store, and files served back."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.lhq.hubbing import Hub, _answer

COMMIT = "1" * 40


@contextmanager
def model_hub() -> Iterator[Hub]:
    """A running Hub of models."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._file(head=True)

        def do_GET(self) -> None:
            if "/resolve/" in self.path:
                self._file(head=False)
            else:
                self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def do_PUT(self) -> None:
            self._serve("PUT")

        def _file(self, *, head: bool) -> None:
            name, _, rest = self.path.strip("/").partition("/resolve/")
            data = made.files.get(name, {}).get(rest.partition("/")[2])
            known = self.headers.get("Authorization") == f"Bearer {made.token}"
            if data is None or (made.private.get(name) and not known):
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound" if name not in made.files else "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not head:
                self.wfile.write(data)

        def _serve(self, method: str) -> None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.split("?")[0].replace("/api/models/", "/api/datasets/")
            if path.endswith("/info/lfs/objects/batch"):
                path = f"/datasets{path}"
            status, answer = _answer(made, method, path, body, self.headers.get("Authorization", ""))
            data = json.dumps(answer).encode().replace(b"/datasets/", b"/")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
