"""Numbered Parquet shards in rooms: `photos/000123.parquet` → `facts/objects/000123.parquet`.

A shard keeps its number for life, and a file has its final name if and only if it is complete: it is
written aside, synced, then renamed. That is the whole of resuming. On object stores an upload becomes
visible only when it completes, so the same law holds there without the rename.
Any fsspec address works (`data/lhq`, `s3://bucket/lhq`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import fsspec
import fsspec.spec
import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32

from lhq.errors import ShardDamaged, StoreError
from lhq.records import ADDED, with_added
from lhq.store.plain_pages import plain_values
from lhq.store.remote import disable_progress_bars, is_local, list_names, open_file, translate_errors, uncached
from lhq.store.sums import SUMS, crc32s, encoded, stated_sums
from lhq.system import sync_folder

PHOTOS = "photos"

CHECKSUMS = "lhq.checksums"
"""Key in the metadata of shards of photos whose pages carry checksums."""


_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What Arrow raises of a file with flipped bits."""
_NAME = re.compile(r"(\d{6})\.parquet")
_ASIDE = re.compile(r"(.+)\.([0-9a-f]{8})([0-9a-f]{8})\.part")
_OLD_ASIDE = re.compile(r".+\.parquet\.[0-9a-f]{8}\.part")


def key(number: int) -> str:
    """The shard's name without ending: 123 → `000123`."""
    return f"{number:06d}"


class Shards:
    """The numbered files of one room of a store.

    Args:
        store: folder or URL of the store.
        room: path of the room inside it, e.g. `photos` or `facts/size`.
    """

    def __init__(self, store: str, room: str) -> None:
        self.store, self.room = store, room
        self.fs, root = fsspec.core.url_to_fs(store)
        self.root = posixpath.join(root, room)

    def __reduce__(self) -> tuple[type[Shards], tuple[str, str]]:
        return Shards, (self.store, self.room)

    def path(self, number: int) -> str:
        """The file of one shard, on this room's filesystem."""
        return posixpath.join(self.root, f"{key(number)}.parquet")

    def numbers(self) -> list[int]:
        """Numbers of the complete shards, ascending; none where the room or the store is not there yet.

        Raises:
            StoreError: the store can't be reached (no credentials, no network).
        """
        found = (_NAME.fullmatch(name) for name in list_names(self.fs, self.root, self.store))
        return sorted(int(match[1]) for match in found if match)

    def exists(self, number: int) -> bool:
        with translate_errors(self.store):
            return bool(uncached(self.fs).exists(self.path(number)))

    def forget_debris(self) -> None:
        """Delete what killed writers left here; for whoever holds the lock under which this room is written."""
        if is_local(self.fs) and os.path.isdir(self.root):
            forget_debris(self.root)

    def write(self, number: int, table: pa.Table, *, row_group_size: int | None = None) -> None:
        """Write one shard whole; it appears under its name only when complete.

        Raises:
            StoreError: the store can't be written (full disk, no permission).
        """
        others = [name for name in table.schema.names if name != "image"]
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), CHECKSUMS: "pages"})
        # Photos are written plain: in a dictionary all of a row group's would be one page, held twice to be read.
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": others, "write_page_checksum": True}
        if "image" in table.schema.names:
            table = table.replace_schema_metadata({**table.schema.metadata, SUMS: encoded(crc32s(table["image"]))})
            options["compression"] = dict.fromkeys(others, "zstd") | {"image": "none"}
        write_whole(
            self.fs,
            self.path(number),
            lambda sink: pq.write_table(table, sink, row_group_size=row_group_size, **options),
        )

    def read(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One shard as a table, only `columns` if given.

        Photos of shards written before a column was added hold its default (`records.ADDED`).

        Raises:
            ShardDamaged: the file is there but can't be read; the message names it.
        """
        path = self.path(number)
        try:
            with self.open(number) as file:
                opened, names = _file(file, columns, self._added)
                table = opened.read(columns=_present(names, columns), use_threads=False)  # no thread outlives it
                return with_added(table, columns) if self._lacks(names, columns) else table
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def metadata(self, number: int) -> dict[str, str]:
        """The key-value metadata of one shard (what settings made it, for facts)."""
        # Of the two copies in a file, that which `read` returns with the table; `read_schema` looks at the other.
        found = self._about(number).metadata or {}
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
        """One shard in batches of at most `rows` rows: memory stays flat however large its photos are.

        Raises:
            ShardDamaged: the file is there but can't be read.
        """
        path = self.path(number)
        try:
            with self.open(number) as file:
                opened, names = _file(file, columns, self._added)
                is_old = self._lacks(names, columns)
                for batch in opened.iter_batches(rows, columns=_present(names, columns), use_threads=False):
                    if is_old:
                        yield from with_added(pa.Table.from_batches([batch]), columns).to_batches()
                    else:
                        yield batch
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def pictures(self, number: int) -> Iterator[bytes]:
        """The photos' bytes of one shard, in order, one at a time in Arrow's hands.

        In batches of many, Arrow gathers them in one buffer that doubles as it grows: with the copying and the new
        memory, a batch of sixteen cost 0.8 ms a photo more, a tenth of the time to decode it.

        Raises:
            ShardDamaged: the file is there but can't be read, or a page of it is not what was written.
        """
        return self._pictures(number, 0, is_verified=True)

    def checked_pictures(self, number: int, sha256: Sequence[str]) -> Iterator[tuple[bytes, bool]]:
        """Like `pictures`, with whether the bytes are still those that were fetched; `sha256` is the shard's column.

        What costs a hash is asked last: a photo whose CRC-32 is that of its shard (`SUMS`) is whole, and so is a page
        that passes its own checksum in a shard from before there were such sums. Others are hashed.

        Raises:
            ShardDamaged: the file is there but can't be read.
        """
        about = self._about(number)
        sums = stated_sums(about)
        if len(sums) == len(sha256):
            for row, data in enumerate(self._quick_pictures(number, about)):
                yield data, crc32(data) == sums[row] or _is_same(data, sha256[row])
            return
        done = 0
        if self.has_checksums(number):
            try:
                for data in self._pictures(number, 0, is_verified=True):
                    yield data, True
                    done += 1
                return
            except ShardDamaged as error:
                if "checksum" not in str(error).lower():
                    raise
        for row, data in enumerate(self._pictures(number, done, is_verified=False), done):
            yield data, not sha256[row] or _is_same(data, sha256[row])

    def has_checksums(self, number: int) -> bool:
        """Whether the pages of a shard were written with checksums."""
        return CHECKSUMS in self.metadata(number)

    def _about(self, number: int) -> pq.FileMetaData:
        path = self.path(number)
        try:
            with self.open(number) as file:
                return pq.read_metadata(file)
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def _quick_pictures(self, number: int, about: pq.FileMetaData) -> Iterator[bytes]:
        """Like `pictures`, without the checksums of pages; what does not lie plain in a local file, Arrow reads."""
        done = 0
        if is_local(self.fs):
            try:
                for data in plain_values(self.path(number), about, "image"):
                    yield data
                    done += 1
            except FileNotFoundError:
                raise
            except OSError as error:
                raise self._damaged(self.path(number), error) from error
        if done < about.num_rows:
            yield from self._pictures(number, done, is_verified=False)

    def _pictures(self, number: int, first: int, *, is_verified: bool) -> Iterator[bytes]:
        path = self.path(number)
        # From a local file page by page; a remote one is asked for a whole row group at once.
        ahead_bytes = 64 * 2**10 if is_local(self.fs) else 0
        try:
            with self.open(number) as file:
                opened, _ = _file(file, ["image"], buffer_size=ahead_bytes, is_verified=is_verified)
                rest = opened.metadata.num_rows
                for batch in opened.iter_batches(1, columns=["image"], use_threads=False):
                    rest -= 1
                    if opened.metadata.num_rows - rest > first:
                        # `as_py` of a scalar costs twice as much as its buffer and one copy of that.
                        data = batch["image"][0].as_buffer()
                        yield b"" if data is None else bytes(data)
                if rest:
                    raise pa.ArrowInvalid(f"the last {rest} photos have no bytes")
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise self._damaged(path, error) from error

    def open(self, number: int) -> Any:
        """One shard's file for reading; local ones by Arrow itself, which halves the time to read a shard of photos."""
        path = self.path(number)
        return pa.OSFile(path, "rb") if is_local(self.fs) else open_file(self.fs, path)

    @property
    def _added(self) -> frozenset[str]:
        """Columns that an old shard of this room may lack."""
        return frozenset(ADDED) if self.room == PHOTOS else frozenset()

    def _lacks(self, names: Sequence[str], columns: Sequence[str] | None) -> bool:
        wanted = self._added if columns is None else self._added & set(columns)
        return not wanted <= set(names)

    @staticmethod
    def _damaged(path: str, error: Exception) -> ShardDamaged:
        return ShardDamaged(
            f"{path}: not readable ({' '.join(str(error).split())})",
            hint="`lhq filter` moves it to quarantine/; photos come back by: lhq crawl PIPELINE --retry-failed damaged",
        )


def _file(
    file: IO[bytes],
    columns: Sequence[str] | None,
    optional: frozenset[str] = frozenset(),
    *,
    buffer_size: int = 0,
    is_verified: bool = True,
) -> tuple[pq.ParquetFile, list[str]]:
    """An open shard that has `columns`, but for `optional` ones, and the names of all that it has.

    `pq.read_table` would load Arrow's whole dataset engine for it.
    Nothing is read ahead by Arrow's own threads: every row group would stay in memory until the end, and a
    thread that lets go of a Python file's bytes while the interpreter ends aborts the process."""
    opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=buffer_size, page_checksum_verification=is_verified)
    names = opened.schema_arrow.names  # made again each time it is asked for
    missing = set(columns or ()) - set(names) - optional
    if missing:
        raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))}")
    return opened, names


def _present(names: Sequence[str], columns: Sequence[str] | None) -> list[str] | None:
    """Those of `columns` that the file has; one that every shard has where all of them are newer than the file."""
    if columns is None:
        return None
    return [name for name in columns if name in names] or ["id"]


def _is_same(data: bytes, sha256: str) -> bool:
    return hashlib.sha256(data).hexdigest() == sha256


def write_whole(fs: Any, path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it has its name if and only if it is complete.

    Raises:
        StoreError: the place can't be written; nothing is left behind.
    """
    local = is_local(fs)
    aside = _aside(path) if local else path
    try:
        if local:
            os.makedirs(posixpath.dirname(path), exist_ok=True)
            with open(aside, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            sync_folder(posixpath.dirname(path))
        else:
            with translate_errors(path):
                _upload(fs, path, write)
    except OSError as error:
        if local:
            _forget(aside)
        raise StoreError(f"{path}: can't be written ({error})", hint="free space or choose another store") from error
    except BaseException:
        if local:
            _forget(aside)
        raise


def forget_debris(folder: str) -> None:
    """Delete the files in a local folder that `write_whole` had begun when it was killed."""
    for name in os.listdir(folder):
        if debris_of(path := os.path.join(folder, name)):
            os.unlink(path)


def debris_of(path: str) -> str:
    """Name of the file that `write_whole` had begun at `path` when it was killed; "" for what is not such debris.

    The ending `.part` is anybody's. Ours holds eight random hex digits and a checksum of them and the name, which no
    other program's does; files begun by versions that wrote no checksum are told by how a Parquet file begins.
    """
    if os.path.islink(path) or not os.path.isfile(path):
        return ""
    name = os.path.basename(path)
    if (found := _ASIDE.fullmatch(name)) and found[3] == _checksum(found[1], found[2]):
        return found[1]
    if not _OLD_ASIDE.fullmatch(name):
        return ""
    with open(path, "rb") as file:
        return name.rsplit(".", 2)[0] if file.read(4) == b"PAR1" else ""


def _aside(path: str) -> str:
    digits = uuid.uuid4().hex[:8]
    return f"{path}.{digits}{_checksum(posixpath.basename(path), digits)}.part"


def _checksum(name: str, digits: str) -> str:
    return hashlib.sha256(f"lhq {name} {digits}".encode()).hexdigest()[:8]


def _upload(fs: Any, path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write an object, which its store shows when it is closed; a write that fails must therefore not close it."""
    disable_progress_bars(fs)
    file = fs.open(path, "wb")
    try:
        write(file)
    except BaseException:
        if isinstance(file, fsspec.spec.AbstractBufferedFile):
            file.closed = True  # or leaving it to the collector would publish what came so far
            with contextlib.suppress(Exception):  # why the write failed is what counts; parts cost room, no more
                file.discard()
        raise
    file.close()


def _forget(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
