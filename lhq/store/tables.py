"""The store's small tables, each one Parquet file that is read and written whole; one writer at a time."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lhq.errors import ShardDamaged, StoreError
from lhq.store.remote import is_local, open_file
from lhq.store.shards import write_whole
from lhq.system import lock_folder


def read(store: str, name: str, schema: pa.Schema, hint: str) -> pa.Table:
    """The table of this name in a store, as `schema`; empty where there is none.

    Args:
        hint: what to do where it can't be read.

    Raises:
        ShardDamaged: the file is not readable.
    """
    fs, root = fsspec.core.url_to_fs(store)
    path = posixpath.join(root, name)
    try:
        with open_file(fs, path) as file:
            return pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True).read().cast(schema)
    except FileNotFoundError:
        return pa.Table.from_batches([], schema)  # `empty_table` would load pandas, a fifth of a second
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(f"{path}: not readable ({error})", hint=hint) from error


@contextmanager
def alone(store: str) -> Iterator[Callable[[str, pa.Table], None]]:
    """The only writer of a store's small tables: called with a name and a table, it puts that in its place.

    Of two takedowns at once the second waits, or it would write over what the first one added. A store on this
    machine's disk is locked as a folder; a bucket has no locks, and one takedown at a time is its users' care.

    Raises:
        StoreError: the store can't be opened or written.
    """
    fs, root = fsspec.core.url_to_fs(store)

    def write(name: str, table: pa.Table) -> None:
        write_whole(fs, posixpath.join(root, name), lambda sink: pq.write_table(table, sink, write_page_checksum=True))

    if not is_local(fs):
        yield write
        return
    try:
        os.makedirs(root, exist_ok=True)
        handle = lock_folder(root, waits=True)
    except OSError as error:
        raise StoreError(f"{root}: can't be opened ({error})", hint="mend its permissions or give another") from error
    try:
        yield write
    finally:
        os.close(handle)
