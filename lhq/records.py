"""Query → candidate → photo → verdict: the nouns of the pipeline, and their Arrow schemas.

A candidate is a photo that a source offered, with its papers; a photo is a candidate whose bytes we hold.
`id` is `source:source_id` everywhere; it is the key of every join and never becomes a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Lane = Literal["cpu", "gpu"]
"""Where a measure works: on one core, or on one GPU."""

ALL = 2**31
"""As the number of photos wanted: whatever the sources hold."""


@dataclass(frozen=True, slots=True)
class Query:
    """One line of `queries/*.txt`; `theme` is the file's stem."""

    text: str
    theme: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A photo that a source offered, with its papers.

    `width_px`, `height_px` are what the source claims (None where it says nothing). `licence` is an id of
    `lhq.rights.licences.LICENCES`. `permits` lists what a permission beyond the licence allows (words of
    `lhq.rights.permissions.PERMITS`), `permission` is its statement, word for word. `attribution` is the author's own
    wording where it differs from the name. `report_use_url` is fetched once with the source's key after the photo is
    kept (Unsplash's download_location); None where a source asks for nothing.
    """

    source: str
    source_id: str
    url: str
    page_url: str
    author: str
    author_url: str
    licence: str
    query: str
    width_px: int | None = None
    height_px: int | None = None
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    taken_at: str = ""
    permission: str = ""
    permits: tuple[str, ...] = ()
    permission_by: str = ""
    permission_on: str = ""
    attribution: str = ""
    latitude: float | None = None
    longitude: float | None = None
    camera: str = ""
    report_use_url: str | None = None

    @property
    def id(self) -> str:
        return f"{self.source}:{self.source_id}"


@dataclass(frozen=True, slots=True)
class Photo:
    """A candidate whose bytes we hold: one row of `photos/000123.parquet`.

    `width_px`, `height_px` are the true stored size from the header (before the EXIF turn); `orientation`
    is the EXIF value 1-8; `format` is sniffed from the bytes (`jpeg`, `png`, `webp`, …). The rest are those
    of its papers that measures look at.
    """

    id: str
    data: bytes
    width_px: int
    height_px: int
    orientation: int = 1
    format: str = ""
    sha256: str = ""
    licence: str = ""
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()


# One row of photos/<number>.parquet. `image` is last: everything before it is read without touching bytes.
# `reserved` names the opt-out signals that say no, `reservations` is the evidence: which were asked, each answer, when.
PHOTO_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("page_url", pa.string(), nullable=False),
        pa.field("author", pa.string(), nullable=False),
        pa.field("author_url", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("licence_version", pa.string(), nullable=False),
        pa.field("licence_url", pa.string(), nullable=False),
        pa.field("permission", pa.string(), nullable=False),
        pa.field("permits", pa.list_(pa.string()), nullable=False),
        pa.field("permission_by", pa.string(), nullable=False),
        pa.field("permission_on", pa.string(), nullable=False),
        pa.field("queries", pa.list_(pa.string()), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("taken_at", pa.string(), nullable=False),
        pa.field("attribution", pa.string(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("reserved", pa.list_(pa.string()), nullable=False),
        pa.field("reservations", pa.string(), nullable=False),
        pa.field("fetched_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("orientation", pa.int8(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)
# Where and with what a photo was taken: kept in the store, published only if the pipeline file asks for it.
PLACE = ("latitude", "longitude", "camera")
PAPERS = [name for name in PHOTO_SCHEMA.names if name != "image"]
PUBLISHED_PAPERS = [name for name in PAPERS if name not in PLACE]
# Columns added later, with the default that older shards' rows hold: nothing was permitted, nobody was asked.
ADDED: dict[str, object] = {
    "permits": [],
    "permission_by": "",
    "permission_on": "",
    "attribution": "",
    "latitude": None,
    "longitude": None,
    "camera": "",
    "reserved": [],
    "reservations": "",
}


def with_added(table: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of a shard of photos in `columns` of today's schema (all of them if None), in that order.

    Columns of `ADDED` that the shard lacks hold their default. Casting to `PHOTO_SCHEMA` is left to the caller: tables
        as read are nullable where the schema is not.
    """
    names = list(PHOTO_SCHEMA.names if columns is None else columns)
    arrays = [
        table[name]
        if name in table.column_names or name not in ADDED
        else pa.chunked_array([pa.array([ADDED[name]] * len(table), PHOTO_SCHEMA.field(name).type)])
        for name in names
    ]
    return pa.table(arrays, schema=pa.schema([PHOTO_SCHEMA.field(name) for name in names]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One measure's decision on one photo.

    `score` is the figure that decided (NaN if none), `detail` explains it
    ("person 0.97 over 3.1 % of the picture"). A photo is kept if every measure keeps it.
    """

    id: str
    measure: str
    kept: bool
    score: float
    detail: str = ""


# One row of verdicts.parquet: all measures' verdicts on one photo, joined. `reason` is the first failing
# measure in the pipeline file's order ("" if kept); `failed` holds all of them.
VERDICT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("failed", pa.list_(pa.string()), nullable=False),
    ]
)
