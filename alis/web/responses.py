"""HTTP responses: 304 for what a viewer already has, text compressed once, and errors as JSON with a hint."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse, Response

IMMUTABLE, REVALIDATE = "public, max-age=31536000, immutable", "no-cache"
_RETRY_S = 1
_MIN_GZIP_BYTES = 600


def etag_of(*parts: bytes) -> str:
    """An ETag of these bytes."""
    digest = hashlib.blake2s(digest_size=8)
    for part in parts:
        digest.update(part)
    return f'"{digest.hexdigest()}"'


def not_modified(request: Request, tag: str, headers: Mapping[str, str]) -> Response | None:
    """A 304 response with `headers` if the request's If-None-Match has this ETag, else None."""
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    return Response(status_code=304, headers={"ETag": tag, **headers}) if known & {tag, "*"} else None


class CachedText:
    """A text served often: its ETag and gzip form are computed once."""

    def __init__(self, body: bytes, media_type: str, cache_control: str = REVALIDATE) -> None:
        self.body, self.media_type, self.cache_control = body, media_type, cache_control
        # Without a modification time, the same text always compresses to the same bytes.
        self.gzipped = gzip.compress(body, 9, mtime=0) if len(body) >= _MIN_GZIP_BYTES else None
        self.tag, self.gzipped_tag = etag_of(body), etag_of(b"gzip", body)

    def respond(self, request: Request) -> Response:
        """The text, gzipped if the viewer accepts that."""
        is_gzipped = self.gzipped is not None and accepts_gzip(request.headers.get("accept-encoding", ""))
        tag = self.gzipped_tag if is_gzipped else self.tag
        headers = {"Cache-Control": self.cache_control, "Vary": "Accept-Encoding"}
        if known := not_modified(request, tag, headers):
            return known
        headers["ETag"] = tag
        if not is_gzipped:
            return Response(self.body, media_type=self.media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(self.gzipped, media_type=self.media_type, headers=headers)


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, rest = part.partition(";")
        weight = rest.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(weight) if rest.strip() else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def error_response(status: int, message: str, hint: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What went wrong and what to do about it, as JSON that is never cached."""
    common = {"Cache-Control": "no-store"} | ({"Retry-After": str(_RETRY_S)} if status in {429, 503} else {})
    return JSONResponse({"error": message, "hint": hint}, status_code=status, headers=common | dict(headers or {}))
