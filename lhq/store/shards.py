"""Numbered Parquet shards in folders of a store: `photos/000123.parquet`, `facts/objects/000123.parquet`.

A shard keeps its number for life, and appears under its name only when it is complete (`lhq.store.atomic_file`), so an
interrupted run can simply be repeated. Any fsspec URL works as a store (`data/lhq`, `s3://bucket/lhq`).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

import fsspec
import fsspec.spec
import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32

from lhq.errors import ShardDamaged
from lhq.records import ADDED, with_added
from lhq.store.atomic_file import delete_partial_files, write_atomically
from lhq.store.checksums import CRC32_KEY, crc32s, encode, stored_crc32s
from lhq.store.plain_pages import plain_values
from lhq.store.remote import is_local, list_names, open_file, translate_errors, uncached

PHOTOS = "photos"

PAGE_CHECKSUMS_KEY = "lhq.checksums"
"""Key in the schema metadata of shards whose pages have checksums."""


_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What Arrow raises for a file with flipped bits."""
_NAME = re.compile(r"(\d{6})\.parquet")


def key(number: int) -> str:
    """A shard's file name without suffix: 123 → `000123`."""
    return f"{number:06d}"


class Shards:
    """The numbered Parquet files in one folder of a store.

    Args:
        store: path or URL of the store.
        folder: relative path, such as `photos` or `facts/size`.
    """

    def __init__(self, store: str, folder: str) -> None:
        self.store, self.folder = store, folder
        self.fs, root = fsspec.core.url_to_fs(store)
        self.root = posixpath.join(root, folder)

    def __reduce__(self) -> tuple[type[Shards], tuple[str, str]]:
        return Shards, (self.store, self.folder)

    def path(self, number: int) -> str:
        """The path of one shard on the store's filesystem."""
        return posixpath.join(self.root, f"{key(number)}.parquet")

    def numbers(self) -> list[int]:
        """Numbers of the complete shards, ascending; [] if the folder or the store doesn't exist yet.

        Raises:
            StoreError: the store can't be reached (no credentials, no network).
        """
        matches = (_NAME.fullmatch(name) for name in list_names(self.fs, self.root, self.store))
        return sorted(int(match[1]) for match in matches if match)

    def exists(self, number: int) -> bool:
        with translate_errors(self.store):
            return bool(uncached(self.fs).exists(self.path(number)))

    def delete_partial_files(self) -> None:
        """Delete temporary files of killed writers; the caller holds the lock for writing this folder."""
        if is_local(self.fs) and os.path.isdir(self.root):
            delete_partial_files(self.root)

    def write(self, number: int, table: pa.Table, *, row_group_size: int | None = None) -> None:
        """Write one shard atomically, with checksums of its pages and of each photo.

        Raises:
            StoreError: the store can't be written (full disk, no permission).
        """
        others = [name for name in table.schema.names if name != "image"]
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), PAGE_CHECKSUMS_KEY: "pages"})
        # No dictionary for photos: it would be one page with all of a row group, which takes twice its size to read.
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": others, "write_page_checksum": True}
        if "image" in table.schema.names:
            table = table.replace_schema_metadata({**table.schema.metadata, CRC32_KEY: encode(crc32s(table["image"]))})
            options["compression"] = dict.fromkeys(others, "zstd") | {"image": "none"}
        write_atomically(
            self.fs,
            self.path(number),
            lambda sink: pq.write_table(table, sink, row_group_size=row_group_size, **options),
        )

    def read(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one shard, or only `columns` of it.

        In shards of photos that are older than a column, it has its default (`records.ADDED`).

        Raises:
            ShardDamaged: the file exists but can't be read; the message names it.
        """
        path = self.path(number)
        try:
            with self.open(number) as file:
                parquet, names = _open_parquet(file, columns, self._optional_columns)
                table = parquet.read(
                    columns=_columns_in_file(names, columns), use_threads=False
                )  # no thread outlives the call
                return with_added(table, columns) if self._lacks(names, columns) else table
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def metadata(self, number: int) -> dict[str, str]:
        """The key-value metadata of one shard; for facts, it includes their fingerprint."""
        # Of the two copies in a file, the one that `read` returns with the table; `read_schema` reads the other.
        found = self._file_metadata(number).metadata or {}
        return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in found.items()}

    def columns(self, number: int) -> list[str]:
        """Names of one shard's columns.

        Raises:
            ShardDamaged: the file is there but can't be read.
        """
        path = self.path(number)
        try:
            with self.open(number) as file:
                return list(pq.read_schema(file).names)
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def batches(self, number: int, columns: Sequence[str] | None = None, rows: int = 64) -> Iterator[pa.RecordBatch]:
        """Read one shard in batches of at most `rows` rows, in constant memory.

        Raises:
            ShardDamaged: the file is there but can't be read.
        """
        path = self.path(number)
        try:
            with self.open(number) as file:
                parquet, names = _open_parquet(file, columns, self._optional_columns)
                is_old = self._lacks(names, columns)
                for batch in parquet.iter_batches(rows, columns=_columns_in_file(names, columns), use_threads=False):
                    if is_old:
                        yield from with_added(pa.Table.from_batches([batch]), columns).to_batches()
                    else:
                        yield batch
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def images(self, number: int) -> Iterator[bytes]:
        """Read the photos of one shard in order, one at a time, verifying page checksums.

        Arrow gathers a batch of several in one buffer that doubles as it grows; copying and allocating cost 0.8 ms more
        per photo in batches of sixteen, a tenth of its decoding time.

        Raises:
            ShardDamaged: the file exists but can't be read, or a page's checksum is wrong.
        """
        return self._read_images(number, 0, is_verified=True)

    def checked_images(self, number: int, sha256: Sequence[str]) -> Iterator[tuple[bytes, bool]]:
        """Like `images`, with whether each photo's bytes are intact; `sha256` is the shard's column.

        The cheapest check comes first: a photo is intact if its CRC-32 is the stored one (`CRC32_KEY`) or, in older
        shards, if its page's checksum is right. Otherwise its sha256 decides.

        Raises:
            ShardDamaged: the file exists but can't be read.
        """
        metadata = self._file_metadata(number)
        crc32s_stored = stored_crc32s(metadata)
        if len(crc32s_stored) == len(sha256):
            for row, data in enumerate(self._read_plain_images(number, metadata)):
                yield data, crc32(data) == crc32s_stored[row] or _has_sha256(data, sha256[row])
            return
        done = 0
        if self.has_page_checksums(number):
            try:
                for data in self._read_images(number, 0, is_verified=True):
                    yield data, True
                    done += 1
                return
            except ShardDamaged as error:
                if "checksum" not in str(error).lower():
                    raise
        for row, data in enumerate(self._read_images(number, done, is_verified=False), done):
            yield data, not sha256[row] or _has_sha256(data, sha256[row])

    def has_page_checksums(self, number: int) -> bool:
        """Whether the pages of a shard were written with checksums."""
        return PAGE_CHECKSUMS_KEY in self.metadata(number)

    def _file_metadata(self, number: int) -> pq.FileMetaData:
        path = self.path(number)
        try:
            with self.open(number) as file:
                return pq.read_metadata(file)
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def _read_plain_images(self, number: int, metadata: pq.FileMetaData) -> Iterator[bytes]:
        """Like `images` without verification, and faster if the file is local and its pages are plain."""
        done = 0
        if is_local(self.fs):
            try:
                for data in plain_values(self.path(number), metadata, "image"):
                    yield data
                    done += 1
            except FileNotFoundError:
                raise
            except OSError as error:
                raise self._damaged(self.path(number), error) from error
        if done < metadata.num_rows:
            yield from self._read_images(number, done, is_verified=False)

    def _read_images(self, number: int, first: int, *, is_verified: bool) -> Iterator[bytes]:
        path = self.path(number)
        # Local files are read page by page, remote ones a row group at a time.
        buffer_bytes = 64 * 2**10 if is_local(self.fs) else 0
        try:
            with self.open(number) as file:
                parquet, _ = _open_parquet(file, ["image"], buffer_size=buffer_bytes, is_verified=is_verified)
                num_left = parquet.metadata.num_rows
                for batch in parquet.iter_batches(1, columns=["image"], use_threads=False):
                    num_left -= 1
                    if parquet.metadata.num_rows - num_left > first:
                        # `as_py` takes twice as long as copying the scalar's buffer.
                        data = batch["image"][0].as_buffer()
                        yield b"" if data is None else bytes(data)
                if num_left:
                    raise pa.ArrowInvalid(f"the last {num_left} photos have no bytes")
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def open(self, number: int) -> Any:
        """Open one shard's file; local ones by Arrow's own reader, which halves the time to read photos."""
        path = self.path(number)
        return pa.OSFile(path, "rb") if is_local(self.fs) else open_file(self.fs, path)

    @property
    def _optional_columns(self) -> frozenset[str]:
        """Columns that old shards of this folder may lack."""
        return frozenset(ADDED) if self.folder == PHOTOS else frozenset()

    def _lacks(self, names: Sequence[str], columns: Sequence[str] | None) -> bool:
        wanted = self._optional_columns if columns is None else self._optional_columns & set(columns)
        return not wanted <= set(names)

    def _damaged(self, path: str, error: Exception) -> ShardDamaged:
        then = (
            " and measures it again"
            if self.folder.startswith("facts/")
            else "; photos come back by: lhq crawl PIPELINE --retry-failed damaged"
        )
        return ShardDamaged(
            f"{path}: not readable ({' '.join(str(error).split())})", hint=f"`lhq filter` moves it to quarantine/{then}"
        )


def _open_parquet(
    file: IO[bytes],
    columns: Sequence[str] | None,
    optional: frozenset[str] = frozenset(),
    *,
    buffer_size: int = 0,
    is_verified: bool = True,
) -> tuple[pq.ParquetFile, list[str]]:
    """Open a Parquet file and check that it has `columns`, except `optional` ones: (file, names of its columns).

    Unlike `pq.read_table`, this doesn't load Arrow's dataset engine. Arrow's prefetching is off: it would keep every
    row group in memory until the end, and a thread that releases a Python file's bytes at interpreter exit aborts the
    process.
    """
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=buffer_size, page_checksum_verification=is_verified)
    names = parquet.schema_arrow.names  # computed on each access
    missing = set(columns or ()) - set(names) - optional
    if missing:
        raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))}")
    return parquet, names


def _columns_in_file(names: Sequence[str], columns: Sequence[str] | None) -> list[str] | None:
    """Those of `columns` that the file has; `id`, which every shard has, if it has none of them."""
    if columns is None:
        return None
    return [name for name in columns if name in names] or ["id"]


def _has_sha256(data: bytes, sha256: str) -> bool:
    return hashlib.sha256(data).hexdigest() == sha256
