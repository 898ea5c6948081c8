"""The dataset tests' loopback Hub, for models: the same store, which also serves files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lhq.hubbing import Hub, _answer
from tests.loopback import Handler, serving_on_loopback

COMMIT = "1" * 40


@contextmanager
def model_hub() -> Iterator[Hub]:
    """A running Hub of models."""

    class Answers(Handler):
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
            body = self.body()
            path = self.path.split("?")[0].replace("/api/models/", "/api/datasets/")
            if path.endswith("/info/lfs/objects/batch"):
                path = f"/datasets{path}"
            status, answer = _answer(made, method, path, body, self.headers.get("Authorization", ""))
            self.say(status, answer, put=(b"/datasets/", b"/"))

    with serving_on_loopback(Answers) as host:
        made = Hub(f"http://{host}")
        yield made
