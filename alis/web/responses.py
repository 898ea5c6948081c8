"""Bytes → answers: what a viewer already holds is not sent again, text is packed once, a error_response says why."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse, Response

IMMUTABLE, REVALIDATE = "public, max-age=31536000, immutable", "no-cache"
_RETRY_S = 1
_WORTH_PACKING = 600


def etag_of(*parts: bytes) -> str:
    """An ETag of these bytes."""
    digest = hashlib.blake2s(digest_size=8)
    for part in parts:
        digest.update(part)
    return f'"{digest.hexdigest()}"'


def not_modified(request: Request, tag: str, headers: Mapping[str, str]) -> Response | None:
    """304 with `headers` if the viewer already holds this."""
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    return Response(status_code=304, headers={"ETag": tag, **headers}) if known & {tag, "*"} else None


class CachedText:
    """A text served often: its tag and its packed form are made once."""

    def __init__(self, body: bytes, media_type: str, keep: str = REVALIDATE) -> None:
        self.body, self.media_type, self.keep = body, media_type, keep
        # The same bytes for the same text: the time of packing stays out.
        self.packed = gzip.compress(body, 9, mtime=0) if len(body) >= _WORTH_PACKING else None
        self.tag, self.packed_tag = etag_of(body), etag_of(b"gzip", body)

    def answer(self, request: Request) -> Response:
        """As the viewer can take it."""
        is_packed = self.packed is not None and accepts_gzip(request.headers.get("accept-encoding", ""))
        tag = self.packed_tag if is_packed else self.tag
        headers = {"Cache-Control": self.keep, "Vary": "Accept-Encoding"}
        if known := not_modified(request, tag, headers):
            return known
        headers["ETag"] = tag
        if not is_packed:
            return Response(self.body, media_type=self.media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(self.packed, media_type=self.media_type, headers=headers)


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
    """What went wrong and the next move, as JSON that nobody keeps."""
    told = {"Cache-Control": "no-store"} | ({"Retry-After": str(_RETRY_S)} if status in {429, 503} else {})
    return JSONResponse({"error": message, "hint": hint}, status_code=status, headers=told | dict(headers or {}))
