"""Opt-outs in the headers of a photo's response; checked before the body, so that a reserved photo isn't downloaded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lhq.rights.reservations.statements import SILENT, Statement, Statements, is_yes, usage_reserves

# "none" is "noindex, nofollow" in one word.
OPT_OUTS = frozenset({"noai", "no-ai", "noimageai", "no-image-ai", "noml", "noindex", "noimageindex", "none"})
# Directives that take a value: `max-image-preview:none` forbids a preview, not the photo.
_VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after", "unavailable-after"})
_SEPARATORS = re.compile(r"[\s,;\"']+")


def from_headers(headers: Mapping[str, str]) -> Statements:
    """The statements of the signals `x-robots-tag`, `tdm-reservation` and `content-usage`.

    Args:
        headers: by lower-case name, repeated headers joined by commas.
    """
    return {
        "x-robots-tag": _robots_tag(headers.get("x-robots-tag")),
        "tdm-reservation": _tdm_reservation(headers.get("tdm-reservation"), headers.get("tdm-policy", "")),
        "content-usage": _content_usage(headers.get("content-usage")),
    }


def robots_words(tag: str) -> list[str]:
    """The opt-out directives of an X-Robots-Tag, whichever bot it names.

    Source: developers.google.com/search/docs/crawling-indexing/robots-meta-tag: directives are separated by commas; a
    bot's name is followed by a colon; some directives have a value after a colon.
    """
    found = []
    for word in _SEPARATORS.split(re.sub(r"\s*:\s*", ":", tag.lower())):
        *before, directive = word.split(":")
        if directive in OPT_OUTS and not _VALUED & set(before):
            found.append(directive)
    return found


def _robots_tag(tag: str | None) -> Statement:
    if tag is None:
        return SILENT
    return Statement.of(tag, reserves=bool(robots_words(tag)))


def _tdm_reservation(value: str | None, policy: str) -> Statement:
    """Source: www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510: 1 reserves, 0 does not."""
    if value is None:
        return SILENT
    reserves = any(is_yes(part) for part in value.split(","))
    return Statement.of(f"{value} (policy {policy})" if policy else value, reserves=reserves)


def _content_usage(value: str | None) -> Statement:
    return SILENT if value is None else Statement.of(value, reserves=usage_reserves(value))
