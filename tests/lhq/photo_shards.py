"""Shards of photos for tests: real files in, rows of PHOTO_SCHEMA out."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from lhq.errors import ImageError
from lhq.images import inspect
from lhq.records import PHOTO_SCHEMA
from lhq.shards import Shards


def row(source: str, source_id: str, data: bytes, **papers: object) -> dict[str, object]:
    """One row of a photo shard; header facts are zeros where the bytes have none."""
    try:
        header = inspect(data)
        facts = (header.format, header.width_px, header.height_px, header.orientation)
    except ImageError:
        facts = ("", 0, 0, 1)
    base = dict.fromkeys(name for name in PHOTO_SCHEMA.names if pa.types.is_string(PHOTO_SCHEMA.field(name).type))
    return {
        **dict.fromkeys(base, ""),
        "id": f"{source}:{source_id}",
        "source": source,
        "source_id": source_id,
        "licence": "cc0-1.0",
        "queries": ["lake"],
        "tags": [],
        "fetched_at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "format": facts[0],
        "width_px": facts[1],
        "height_px": facts[2],
        "orientation": facts[3],
        "image": data,
        **papers,
    }


def write(store: Path, number: int, rows: Sequence[dict[str, object]]) -> None:
    """`photos/<number>.parquet` with these rows."""
    Shards(str(store), "photos").write(number, pa.Table.from_pylist(list(rows), PHOTO_SCHEMA), row_group_size=16)
