"""Ids that were taken down: never exported, never crawled again.

One small Parquet file in the store. It holds the sha256 too where the store knew it, so that the same bytes
offered again under another id stay out.
"""

from __future__ import annotations

import datetime
import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lhq.errors import ShardDamaged, StoreError
from lhq.store.remote import is_local, open_file
from lhq.store.shards import write_whole
from lhq.system import lock_folder

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
    """All tombstones of a store (`SCHEMA`), oldest first; empty where there are none.

    Raises:
        ShardDamaged: the file is not readable: nothing is exported or crawled until it is mended.
    """
    fs, root = fsspec.core.url_to_fs(store)
    path = posixpath.join(root, NAME)
    try:
        with open_file(fs, path) as file:
            return pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True).read().cast(SCHEMA)
    except FileNotFoundError:
        return SCHEMA.empty_table()
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(f"{path}: not readable ({error})", hint="restore it: it says what was taken down") from error


def removed_ids(store: str) -> frozenset[str]:
    """Ids that were taken down."""
    return frozenset(read(store)["id"].to_pylist())


def removed_sha256(store: str) -> frozenset[str]:
    """sha256 of the bytes that were taken down, of those whose bytes the store held."""
    return frozenset(read(store)["sha256"].to_pylist()) - {""}


def add(store: str, sha256_of: Mapping[str, str], reason: str, at: datetime.datetime) -> int:
    """Put up tombstones for ids (→ sha256, "" if unknown); those that stand already stay as they are.

    Returns:
        How many are new.

    Raises:
        StoreError: the store can't be written.
    """
    with alone(store) as (fs, root):
        old = read(store)
        known = set(old["id"].to_pylist())
        new = [
            {"id": id, "sha256": sha256, "removed_at": at, "reason": reason}
            for id, sha256 in sha256_of.items()
            if id not in known
        ]
        if new:
            table = pa.concat_tables([old, pa.Table.from_pylist(new, SCHEMA)])
            write_whole(
                fs, posixpath.join(root, NAME), lambda sink: pq.write_table(table, sink, write_page_checksum=True)
            )
    return len(new)


@contextmanager
def alone(store: str) -> Iterator[tuple[Any, str]]:
    """Filesystem and root of a store, for one writer of its small tables at a time: of two takedowns at once the second
    waits, or it would write over what the first one added. A store on this machine's disk is locked as a folder; a
    bucket has no locks, and one takedown at a time is its users' care.

    Raises:
        StoreError: the store can't be opened.
    """
    fs, root = fsspec.core.url_to_fs(store)
    if not is_local(fs):
        yield fs, root
        return
    try:
        os.makedirs(root, exist_ok=True)
        handle = lock_folder(root, waits=True)
    except OSError as error:
        raise StoreError(f"{root}: can't be opened ({error})", hint="mend its permissions or give another") from error
    try:
        yield fs, root
    finally:
        os.close(handle)
