"""An Unsplash image URL → the same picture as a JPEG, no larger than wanted.

The image host (imgix) renders the size given in the URL, so a photo of 50 megapixels costs only the bytes of the size
kept. Source: docs.imgix.com, parameters w, h, fit, fm, q.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


def sized(raw: str, width_px: int | None, height_px: int | None, *, max_side: int, min_side: int, quality: int) -> str:
    """`raw` with its long side at `max_side` at most, and its short side at `min_side` at least even for a panorama.

    Args:
        width_px, height_px: the original's size, None if unknown.
    """
    params = {"fm": "jpg", "q": str(quality)}
    if width_px is None or height_px is None or max(width_px, height_px) > max_side:
        long_side = max_side
        if width_px and height_px:
            long_side = max(long_side, -(-min_side * max(width_px, height_px) // min(width_px, height_px)))
        params |= {"w": str(long_side), "h": str(long_side), "fit": "max"}
    return with_params(raw, params)


def with_params(url: str, params: dict[str, str]) -> str:
    """`url` with these parameters, in place of those of the same name."""
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(query=urlencode({**dict(parse_qsl(parts.query, keep_blank_values=True)), **params}))
    )
