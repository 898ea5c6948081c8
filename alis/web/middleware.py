"""Request → the application, or an error before the application sees it: wrong host, too long, too many at once.

Every response, errors included, gets the security headers that tell a browser what the page may do.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alis.web.connections import client_key
from alis.web.responses import error_response

_ABSOLUTE = re.compile(rb"https?://(?:[^/?#@]*@)?([^/?#@]*)", re.IGNORECASE)
POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"


ALLOW = {"Allow": "GET, HEAD"}
NO_ADDRESS = ("this is not the address of a page", "ask for a path, e.g. /model.json")


class RequestFilter:
    """ASGI middleware that refuses requests beyond these limits.

    Args:
        max_address: longest URL path and query, in bytes.
        per_viewer: largest number of concurrent requests of one viewer.
        hosts: allowed host names, without ports, e.g. "panorama.example"; empty = any. If the page listens only on
            this machine, naming its host keeps other pages in the same browser from reading it (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, *, max_address: int = 6000, per_viewer: int = 128, hosts: Collection[str] = ()
    ) -> None:
        self.app, self.max_address, self.per_viewer, self.hosts = app, max_address, per_viewer, hosts
        self.num_requests: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        scope = in_origin_form(scope)
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        viewer = client_key(scope["client"][0]) if scope.get("client") else ""
        if not is_host_allowed(host, self.hosts):
            answer: Response = error_response(400, f"this is not {host[:80]!r}", f"ask for {sorted(self.hosts)[0]}")
            await answer(scope, receive, send_with_headers)
        elif not scope["path"].startswith("/"):
            is_server_wide = scope["method"] == "OPTIONS" and scope["path"] == "*"
            answer = Response(status_code=204, headers=ALLOW) if is_server_wide else error_response(400, *NO_ADDRESS)
            await answer(scope, receive, send_with_headers)
        elif len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self.max_address:
            await error_response(414, "this address is too long", "edit fewer anchors")(
                scope, receive, send_with_headers
            )
        elif self.num_requests.get(viewer, 0) >= self.per_viewer:
            await error_response(429, "too many requests at once", "wait a moment")(scope, receive, send_with_headers)
        else:
            self.num_requests[viewer] = self.num_requests.get(viewer, 0) + 1
            try:
                await self.app(scope, receive, send_with_headers)
            finally:
                self.num_requests[viewer] -= 1
                if not self.num_requests[viewer]:
                    del self.num_requests[viewer]


def in_origin_form(scope: Scope) -> Scope:
    """The request with its URL as a path: `GET http://x/y` becomes `GET /y` of host x, whatever the Host header says.

    Source: RFC 9112, section 3.2.2.
    """
    found = _ABSOLUTE.match(scope.get("raw_path") or b"")
    if not found:
        return scope
    path = scope["raw_path"][found.end() :] or b"/"
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "headers": [(b"host", found[1]), *others],
    }


def is_host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header names one of the allowed hosts (empty = any); the port is ignored."""
    if not allowed:
        return True
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".") in {other.lower() for other in allowed}
