"""A store's small tables: Parquet files that are read and written as a whole, by one writer at a time."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lhq.errors import ShardDamaged, StoreError
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import is_local, open_file
from lhq.system import lock_folder


def read(store: str, name: str, schema: pa.Schema, hint: str) -> pa.Table:
    """Read a table, cast to `schema`; empty if there is none.

    Args:
        hint: of the error.

    Raises:
        ShardDamaged: the file is unreadable.
    """
    fs, root = fsspec.core.url_to_fs(store)
    path = posixpath.join(root, name)
    try:
        with open_file(fs, path) as file:
            return pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True).read().cast(schema)
    except FileNotFoundError:
        return pa.Table.from_batches([], schema)  # `empty_table` imports pandas, which takes 0.2 s
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(f"{path}: not readable ({error})", hint=hint) from error


@contextmanager
def exclusive_writer(store: str) -> Iterator[Callable[[str, pa.Table], None]]:
    """Lock a store's small tables; yields a function (name, table) that writes one.

    A second takedown waits, so that it can't overwrite what the first added. A local store is locked as a folder. A
    bucket has no such lock: its users must run one takedown at a time.

    Raises:
        StoreError: the store can't be opened or written.
    """
    fs, root = fsspec.core.url_to_fs(store)

    def write(name: str, table: pa.Table) -> None:
        write_atomically(
            fs, posixpath.join(root, name), lambda sink: pq.write_table(table, sink, write_page_checksum=True)
        )

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
