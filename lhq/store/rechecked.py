"""What hosts answered when photos were asked about again: one small Parquet file in the store, id → reservations.

Shards of photos are never written anew for an answer: these columns take the place of theirs wherever papers are read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.errors import ShardDamaged
from lhq.records import PHOTO_SCHEMA
from lhq.store.remote import open_file
from lhq.store.shards import write_whole
from lhq.store.tombstones import alone

NAME = "rechecked.parquet"
COLUMNS = ("reserved", "reservations")
SCHEMA = pa.schema([PHOTO_SCHEMA.field(name) for name in ("id", *COLUMNS)])


def read(store: str) -> pa.Table:
    """The latest answers (`SCHEMA`), one row a photo; empty where nothing was asked again.

    Raises:
        ShardDamaged: the file is not readable: what it reserved would be exported.
    """
    fs, root = fsspec.core.url_to_fs(store)
    path = posixpath.join(root, NAME)
    try:
        with open_file(fs, path) as file:
            return pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True).read().cast(SCHEMA)
    except FileNotFoundError:
        return SCHEMA.empty_table()
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(
            f"{path}: not readable ({error})", hint="restore it, or delete it and run lhq recheck again"
        ) from error


def add(store: str, papers_of: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the answers of these photos (id → `Evidence.papers()`) in place of earlier ones.

    Raises:
        StoreError: the store can't be written.
    """
    if not papers_of:
        return
    with alone(store) as (fs, root):
        old = read(store)
        stays = old.filter(pc.invert(pc.is_in(old["id"], pa.array(list(papers_of), pa.string()))))
        new = pa.Table.from_pylist([{"id": id, **papers} for id, papers in papers_of.items()], SCHEMA)
        _write(fs, root, pa.concat_tables([stays, new]))


def forget(store: str, ids: pa.Array) -> None:
    """Delete the answers of photos that are erased."""
    with alone(store) as (fs, root):
        old = read(store)
        stays = old.filter(pc.invert(pc.is_in(old["id"], ids)))
        if len(stays) < len(old):
            _write(fs, root, stays)


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


def _write(fs: Any, root: str, table: pa.Table) -> None:
    write_whole(fs, posixpath.join(root, NAME), lambda sink: pq.write_table(table, sink, write_page_checksum=True))
