"""A server of pictures on loopback whose answers a test decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from lhq.config import HttpSettings
from tests.loopback import Handler, serving_on_loopback


class Pictures:
    """The responses: path → bytes, or a status, or (status, headers). `asked` counts requests per path."""

    def __init__(self, host: str) -> None:
        self.host, self.url = host, f"http://{host}"
        self.answers: dict[str, bytes | int | tuple[int, dict[str, str]]] = {}
        self.asked: Counter[str] = Counter()

    def settings(self) -> HttpSettings:
        return HttpSettings(allow_hosts=(self.host,), robots=False, max_attempts=2, retry_delay_s=0.01)


@contextmanager
def serving() -> Iterator[Pictures]:
    """A running server."""

    class Answers(Handler):
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

    with serving_on_loopback(Answers) as host:
        pictures = Pictures(host)
        yield pictures
