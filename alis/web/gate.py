"""Request → the application or a refusal, before anything of it is read: host, length, how many at once.

Every answer, the refusals too, leaves with the headers that tell a browser what the page may do.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alis.web.answers import refusal
from alis.web.wire import viewer_of

POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"


class Gate:
    """Limits: longest address, most requests of one viewer at a time, hosts by whose name the page may be asked for.

    Args:
        hosts: names without ports, e.g. "panorama.example"; none = any. Where the page listens on this machine only,
            a name keeps other pages in the same browser from reading it under a name of theirs (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, *, max_address: int = 6000, per_viewer: int = 128, hosts: Collection[str] = ()
    ) -> None:
        self.app, self.max_address, self.per_viewer, self.hosts = app, max_address, per_viewer, hosts
        self.inside: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        viewer = viewer_of(scope["client"][0]) if scope.get("client") else ""
        if not is_host_allowed(host, self.hosts):
            answer = refusal(400, f"this is not {host[:80]!r}", f"ask for {sorted(self.hosts)[0]}")
            await answer(scope, receive, dressed)
        elif len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self.max_address:
            await refusal(414, "this address is too long", "edit fewer anchors")(scope, receive, dressed)
        elif self.inside.get(viewer, 0) >= self.per_viewer:
            await refusal(429, "too many requests at once", "wait a moment")(scope, receive, dressed)
        else:
            self.inside[viewer] = self.inside.get(viewer, 0) + 1
            try:
                await self.app(scope, receive, dressed)
            finally:
                self.inside[viewer] -= 1
                if not self.inside[viewer]:
                    del self.inside[viewer]


def is_host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header names one of these names; none given = any. The port says nothing."""
    if not allowed:
        return True
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".") in {other.lower() for other in allowed}
