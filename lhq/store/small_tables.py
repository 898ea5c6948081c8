"""A store's small tables: Parquet files that are read and written as a whole, by one writer at a time.

Nothing else in the store can tell that such a file is an older copy, of another store, or gone, and what it says was
taken down would be published again. So `tables.json` beside them holds each one's CRC-32. While a table is written, it
holds the old and the new one, so that a kill at any time leaves a pair that belongs together.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32

from lhq import checked_json
from lhq.errors import ShardDamaged, StoreError
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import is_local, open_file
from lhq.system import lock_folder

CHECKSUMS = "tables.json"
_READS = 3  # a writer may come between reading a table and its checksum


def read(store: str, name: str, schema: pa.Schema, hint: str) -> pa.Table:
    """Read a table, cast to `schema`; empty if there is none.

    Args:
        hint: of the error.

    Raises:
        ShardDamaged: the file is unreadable, or not the one that was written last.
    """
    fs, root = fsspec.core.url_to_fs(store)
    path = posixpath.join(root, name)
    data = _checked_bytes(fs, root, name, hint)
    if data is None:
        return pa.Table.from_batches([], schema)  # `empty_table` imports pandas, which takes 0.2 s
    try:
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True)
        return file.read().cast(schema)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that rotted
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
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, write_page_checksum=True)
        data, path, checksums = sink.getvalue().to_pybytes(), posixpath.join(root, name), _checksums(fs, root)
        old, new = _checksum(_bytes(fs, path)), _checksum(data)
        _write_checksums(fs, root, {**checksums, name: [old, new]})
        write_atomically(fs, path, lambda file: file.write(data))
        _write_checksums(fs, root, {**checksums, name: [new]})

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


def _checked_bytes(fs: Any, root: str, name: str, hint: str) -> bytes | None:
    """The bytes of a table, None if there is none; those that its checksum is of, where there is one."""
    path = posixpath.join(root, name)
    for _ in range(_READS):
        try:
            data = _bytes(fs, path)
        except OSError as error:
            raise ShardDamaged(f"{path}: not readable ({error})", hint=hint) from error
        accepted = _checksums(fs, root).get(name)
        if accepted is None or _checksum(data) in accepted:
            return data
    what = "gone" if data is None else "not the file that was written last"
    raise ShardDamaged(
        f"{path}: {what}, says tables.json beside it",
        hint=f"{hint}; if you changed or deleted it yourself, delete {CHECKSUMS}",
    )


def _checksums(fs: Any, root: str) -> dict[str, Sequence[str]]:
    """Table → the checksums that it may have, "" for no file; {} in stores of older versions."""
    path = posixpath.join(root, CHECKSUMS)
    try:
        data = _bytes(fs, path)
        return {} if data is None else dict(checked_json.opened(json.loads(data))["tables"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardDamaged(
            f"{path}: not readable ({error})",
            hint="delete it if removed.parquet and rechecked.parquet are those of this store: it only checks them",
        ) from error


def _write_checksums(fs: Any, root: str, checksums: Mapping[str, Sequence[str]]) -> None:
    text = json.dumps(checked_json.sealed({"tables": checksums}), indent=1) + "\n"
    write_atomically(fs, posixpath.join(root, CHECKSUMS), lambda file: file.write(text.encode()))


def _checksum(data: bytes | None) -> str:
    return "" if data is None else f"{crc32(data):08x}"


def _bytes(fs: Any, path: str) -> bytes | None:
    """A file's content; None if there is none."""
    try:
        with open_file(fs, path) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None
