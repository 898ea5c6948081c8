"""A proxy before a bucket's server that spoils chosen requests: 503s, answers cut short, slow ones, a wrong clock, a
refusal, a login page in place of the answer, another region's bucket, with or without its name."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from tests.loopback import Handler, serving_on_loopback

Fault = Literal["busy", "cut", "slow", "skewed", "denied", "page", "moved", "lost"]
XML = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message>'
    "<RequestId>1</RequestId></Error>"
)
SAID = {
    "busy": (503, "SlowDown", "Please reduce your request rate."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "skewed": (
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    ),
}
MOVED = (301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint.")
PER_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


@dataclass
class Between:
    """`spoil(method, path, number)` says what happens to a request; `number` counts those of its method from 0."""

    upstream: str
    url: str = ""
    spoil: Callable[[str, str, int], Fault | None] = lambda method, path, number: None
    asked: dict[str, int] = field(default_factory=dict)
    spoilt: list[tuple[str, str, Fault]] = field(default_factory=list)

    def heal(self) -> None:
        """From now on nothing is spoilt."""
        self.spoil = lambda method, path, number: None


@contextmanager
def between(upstream: str) -> Iterator[Between]:
    """A running proxy before `upstream` (host:port), at `.url`."""
    made, lock = Between(upstream), threading.Lock()

    class Passes(Handler):
        def _pass(self) -> None:
            body = self.body()
            with lock:
                number = made.asked[self.command] = made.asked.get(self.command, -1) + 1
                fault = made.spoil(self.command, self.path, number)
                if fault:
                    made.spoilt.append((self.command, self.path, fault))
            if fault in SAID:
                status, code, message = SAID[str(fault)]
                self._answer(
                    status, [("Content-Type", "application/xml")], XML.format(code=code, message=message).encode()
                )
                return
            if fault in {"moved", "lost"}:
                status, code, message = MOVED
                there = [("x-amz-bucket-region", "eu-west-1")] if fault == "moved" else []
                said = XML.format(code=code, message=message).encode()
                self._answer(status, [("Content-Type", "application/xml"), *there], said)
                return
            if fault == "page":
                self._answer(200, [("Content-Type", "text/html")], b"<html><body>Log in to this network</body></html>")
                return
            connection = http.client.HTTPConnection(made.upstream, timeout=60)
            try:
                passed = {name: value for name, value in self.headers.items() if name.lower() not in PER_HOP - {"host"}}
                connection.request(self.command, self.path, body, passed | {"Content-Length": str(len(body))})
                answer = connection.getresponse()
                data = answer.read()
            finally:
                connection.close()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in PER_HOP]
            if self.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            self._answer(answer.status, headers, data, fault)

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None = None) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "cut":
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif fault == "slow":
                for at in range(0, len(data), max(len(data) // 8, 1)):
                    self.wfile.write(data[at : at + max(len(data) // 8, 1)])
                    time.sleep(0.02)
            else:
                self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

    with serving_on_loopback(Passes) as host:
        made.url = f"http://{host}"
        yield made
