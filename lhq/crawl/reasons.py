"""Why a candidate is not in the store: the closed list of reasons, each with what it means and whether it may pass.

`docs/crawl.md` shows the same list. Two families stand for many: `http-` with a status, and `robots-` with the reason
for which a host's robots.txt could not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lhq import nearest
from lhq.errors import InputError

# reason → what it means. `http-NNN` and `robots-…` (why robots.txt could not be read) are families beside these.
REASONS: dict[str, str] = {
    "timeout": "no answer in time, or not all of it",
    "disconnected": "the connection broke",
    "connect": "no connection to the host",
    "unresolved": "the host's name is not known",
    "proxy": "the proxy of the environment refused",
    "tls": "the certificate or the handshake",
    "bad-answer": "no HTTP, or a coding that nobody asked for",
    "throttled": "429 or 503; given up for this run if the host serves others",
    "truncated": "shorter than promised, or without its end marker",
    "corrupt-header": "the picture's header contradicts itself",
    "corrupt": "found by the filter: it can't be decoded",
    "empty": "no byte came",
    "not-an-image": "by the bytes, whatever the name says",
    "unsupported-type": "a picture, but not JPEG, PNG or WebP",
    "animated": "more than one picture",
    "too-large": "more than max_bytes",
    "too-many-pixels": "more than max_pixels",
    "too-much-memory": "decoding it would take more memory than a picture may",
    "too-many-scans": "a progressive JPEG made to take for ever",
    "too-small": "the short side is below min_side_px",
    "opt-out": "its host, its file or its author reserves it; which signal stands in the detail",
    "denied": "its author, page or domain stands in the file of [rights] deny",
    "robots": "robots.txt forbids it",
    "forbidden-address": "the host is at a private address",
    "redirects": "more hops than max_redirects, or from https to http",
    "bad-url": "no plain http or https address",
    "placeholder": "a picture that says the photo is gone: one picture under many ids, or a redirect to one",
    "removed": "taken down",
    "gone": "the file of a folder is not there any more",
    "not-a-file": "a folder, pipe or device",
    "unreadable": "the file may not be read",
    "lost": "kept, and taken from the spool's end by a power cut",
    "damaged": "kept in a shard that is gone from photos/, or its bytes there are no longer those that came",
    "crashed": "found by the filter: it kills the process that decodes it",
}


def is_known(reason: str) -> bool:
    """Is it in the list, or of one of its families?"""
    status = reason.removeprefix("http-")
    if reason.startswith("http-"):
        return status.isdecimal() and len(status) == 3
    return reason in REASONS or (reason.startswith("robots-") and is_known(reason.removeprefix("robots-")))


def check(reasons: Iterable[str]) -> None:
    """Refuse reasons that no candidate can have.

    Raises:
        InputError: names the nearest reason that there is.
    """
    for reason in reasons:
        if not is_known(reason):
            hint = nearest.word(reason, REASONS, f"the reasons: {', '.join(sorted(REASONS))}, http-STATUS")
            raise InputError(f'"{reason}" is no reason of a crawl', hint=hint)


def with_robots(reasons: Sequence[str]) -> list[str]:
    """The reasons, and those that came by way of a robots.txt."""
    return [*reasons, *(f"robots-{reason}" for reason in reasons if not reason.startswith("robots-"))]
