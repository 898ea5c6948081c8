"""Tombstones: ids that were taken down, never to be exported or crawled again.

One small Parquet file in the store. It also holds the sha256 of photos that the store had, so that the same bytes are
excluded under any other id.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import pyarrow as pa

from lhq.store import small_tables

NAME = "removed.parquet"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("removed_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def read(store: str) -> pa.Table:
    """All tombstones of a store (`SCHEMA`), oldest first; empty if there are none.

    Raises:
        ShardDamaged: the file is unreadable; nothing is exported or crawled until it is repaired.
    """
    return small_tables.read(store, NAME, SCHEMA, hint="restore it: it says what was taken down")


def removed_ids(store: str) -> frozenset[str]:
    """Ids that were taken down."""
    return frozenset(read(store)["id"].to_pylist())


def removed_sha256(store: str) -> frozenset[str]:
    """sha256 of photos that were taken down, where known."""
    return frozenset(read(store)["sha256"].to_pylist()) - {""}


def add(store: str, sha256_of: Mapping[str, str], reason: str, at: datetime.datetime) -> int:
    """Add tombstones for ids (→ sha256, "" if unknown); existing ones stay as they are.

    Returns:
        the number of new ones.

    Raises:
        StoreError: the store can't be written.
    """
    with small_tables.exclusive_writer(store) as write:
        old = read(store)
        known = set(old["id"].to_pylist())
        new = [
            {"id": id, "sha256": sha256, "removed_at": at, "reason": reason}
            for id, sha256 in sha256_of.items()
            if id not in known
        ]
        if new:
            write(NAME, pa.concat_tables([old, pa.Table.from_pylist(new, SCHEMA)]))
    return len(new)
