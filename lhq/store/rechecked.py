"""What hosts answered when photos were asked about again: one small Parquet file in the store, id → reservations.

Shards of photos are never rewritten for an answer: these columns take the place of theirs wherever papers are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lhq.records import PHOTO_SCHEMA
from lhq.store import tables

NAME = "rechecked.parquet"
COLUMNS = ("reserved", "reservations")
SCHEMA = pa.schema([PHOTO_SCHEMA.field(name) for name in ("id", *COLUMNS)])


def read(store: str) -> pa.Table:
    """The latest answers (`SCHEMA`), one row a photo; empty where nothing was asked again.

    Raises:
        ShardDamaged: the file is not readable: what it reserved would be exported.
    """
    return tables.read(store, NAME, SCHEMA, hint="restore it, or delete it and run lhq recheck again")


def add(store: str, papers_of: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the answers of these photos (id → `Evidence.papers()`) in place of earlier ones.

    Raises:
        StoreError: the store can't be written.
    """
    if not papers_of:
        return
    with tables.alone(store) as write:
        old = read(store)
        stays = old.filter(pc.invert(pc.is_in(old["id"], pa.array(list(papers_of), pa.string()))))
        new = pa.Table.from_pylist([{"id": id, **papers} for id, papers in papers_of.items()], SCHEMA)
        write(NAME, pa.concat_tables([stays, new]))


def forget(store: str, ids: pa.Array) -> None:
    """Delete the answers of photos that are erased."""
    with tables.alone(store) as write:
        old = read(store)
        stays = old.filter(pc.invert(pc.is_in(old["id"], ids)))
        if len(stays) < len(old):
            write(NAME, stays)


def updated(rows: pa.Table, answers: pa.Table) -> pa.Table:
    """Rows of papers with the latest answers in place of those from when they were fetched.

    Args:
        answers: `read` of their store.
    """
    if not len(answers):
        return rows
    at = pc.index_in(rows["id"], answers["id"].combine_chunks())
    if at.null_count == len(rows):
        return rows
    for name in COLUMNS:
        fresh, column = answers[name].to_pylist(), rows[name].to_pylist()
        both = [old if row is None else fresh[row] for row, old in zip(at.to_pylist(), column, strict=True)]
        field = rows.schema.field(name)
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(both, field.type))
    return rows
