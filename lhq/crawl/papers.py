"""Candidate, header and evidence → a photo's papers: its provenance and rights, kept with it for good."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lhq.images import Header
from lhq.records import Candidate
from lhq.rights.licences import LICENCES
from lhq.rights.reservations import Evidence


def papers_of(
    candidate: Candidate, header: Header, url: str, fetched_at: datetime, evidence: Evidence | None = None
) -> dict[str, Any]:
    """One photo's columns of PHOTO_SCHEMA except `image`; `queries` are completed when the shard is sealed.

    Args:
        url: the photo's final URL, after redirects.
        evidence: what its host, file and author state about use; None: nothing was checked.
    """
    licence = LICENCES[candidate.licence]
    return {
        "id": candidate.id,
        "source": candidate.source,
        "source_id": candidate.source_id,
        "url": url,
        "page_url": candidate.page_url,
        "author": candidate.author,
        "author_url": candidate.author_url,
        "licence": licence.id,
        "licence_version": licence.version,
        "licence_url": licence.url,
        "permission": candidate.permission,
        "permits": list(candidate.permits),
        "permission_by": candidate.permission_by,
        "permission_on": candidate.permission_on,
        "queries": [candidate.query] if candidate.query else [],
        "title": candidate.title,
        "description": candidate.description,
        "tags": list(candidate.tags),
        "taken_at": candidate.taken_at,
        "attribution": candidate.attribution,
        "latitude": candidate.latitude,
        "longitude": candidate.longitude,
        "camera": candidate.camera,
        **(evidence or Evidence({})).papers(),
        **papers_of_bytes(header, fetched_at),
    }


def papers_of_bytes(header: Header, fetched_at: datetime) -> dict[str, Any]:
    """The columns that depend on the fetched bytes; `fetched_at` is in milliseconds since 1970."""
    return {
        "fetched_at": int(fetched_at.timestamp() * 1000),
        "sha256": header.sha256,
        "size_bytes": header.size_bytes,
        "format": header.format,
        "width_px": header.width_px,
        "height_px": header.height_px,
        "orientation": header.orientation,
    }


def now() -> datetime:
    """The present time, for `fetched_at`."""
    return datetime.now(UTC)
