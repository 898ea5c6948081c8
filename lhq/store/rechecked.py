"""Results of rechecks: one small Parquet file in the store, id → reservations.

Shards are not rewritten for a recheck: these columns override theirs wherever papers are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lhq.records import PHOTO_SCHEMA
from lhq.store import small_tables

NAME = "rechecked.parquet"
COLUMNS = ("reserved", "reservations")
SCHEMA = pa.schema([PHOTO_SCHEMA.field(name) for name in ("id", *COLUMNS)])


def read(store: str) -> pa.Table:
    """The latest results (`SCHEMA`), one row per photo; empty if nothing was rechecked.

    Raises:
        ShardDamaged: the file is unreadable; ignoring it could export reserved photos.
    """
    return small_tables.read(store, NAME, SCHEMA, hint="restore it, or delete it and run lhq recheck again")


def add(store: str, papers_of: Mapping[str, Mapping[str, Any]]) -> None:
    """Store results (id → `Evidence.papers()`), replacing earlier ones of the same photos.

    Raises:
        StoreError: the store can't be written.
    """
    if not papers_of:
        return
    with small_tables.exclusive_writer(store) as write:
        previous = read(store)
        kept = previous.filter(pc.invert(pc.is_in(previous["id"], pa.array(list(papers_of), pa.string()))))
        new = pa.Table.from_pylist([{"id": id, **papers} for id, papers in papers_of.items()], SCHEMA)
        write(NAME, pa.concat_tables([kept, new]))


def forget(store: str, ids: pa.Array) -> None:
    """Delete the results of erased photos."""
    with small_tables.exclusive_writer(store) as write:
        previous = read(store)
        kept = previous.filter(pc.invert(pc.is_in(previous["id"], ids)))
        if len(kept) < len(previous):
            write(NAME, kept)


def apply(rows: pa.Table, answers: pa.Table) -> pa.Table:
    """Replace the reservations in rows of papers by the latest results.

    Args:
        answers: `read` of their store.
    """
    if not len(answers):
        return rows
    positions = pc.index_in(rows["id"], answers["id"].combine_chunks())
    if positions.null_count == len(rows):
        return rows
    for name in COLUMNS:
        latest, column = answers[name].to_pylist(), rows[name].to_pylist()
        merged = [
            previous if row is None else latest[row]
            for row, previous in zip(positions.to_pylist(), column, strict=True)
        ]
        field = rows.schema.field(name)
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(merged, field.type))
    return rows
