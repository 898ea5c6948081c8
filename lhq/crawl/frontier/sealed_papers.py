"""Candidate ↔ its papers as the frontier stores them: JSON whose first entry is the checksum of the rest.

SQLite has no checksums, and these papers become a photo's: its author, its licence.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from isal.isal_zlib import crc32

from lhq.records import Candidate

_FIELDS = tuple(field.name for field in fields(Candidate))
_LISTS = tuple(field.name for field in fields(Candidate) if field.default == ())
_SEAL = '{"crc32":"'
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dump(candidate: Candidate) -> str:
    """The text to store."""
    # `asdict` copies every value deeply, which took half of the time to add a page.
    papers = _encoder.encode({name: getattr(candidate, name) for name in _FIELDS})
    return f'{_SEAL}{crc32(papers.encode()):08x}",{papers[1:]}'


def load(papers: str) -> Candidate:
    """The candidate of a stored text; texts of older versions have no checksum.

    Raises:
        ValueError, TypeError: these are not the papers that were written.
    """
    if papers.startswith(_SEAL):
        checksum, papers = papers[len(_SEAL) :][:8], "{" + papers[len(_SEAL) + 10 :]
        if f"{crc32(papers.encode()):08x}" != checksum:
            raise ValueError("their checksum is wrong")
    found: dict[str, Any] = json.loads(papers)
    for name in _LISTS:
        found[name] = tuple(found.get(name, ()))
    return Candidate(**found)
