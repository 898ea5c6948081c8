"""The Parquet writer of photo shards: row groups of at most 16 MB, uncompressed images, a CRC-32 of each photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from lhq.records import PHOTO_SCHEMA
from lhq.store.checksums import CRC32_KEY, crc32s, encode
from lhq.store.shards import PAGE_CHECKSUMS_KEY

ROW_GROUP_BYTES = 16 * 2**20


class Sized(Protocol):
    """A photo whose size is known."""

    @property
    def size_bytes(self) -> int: ...


S = TypeVar("S", bound=Sized)


def groups(photos: Sequence[S]) -> Iterator[list[S]]:
    """Divide photos into row groups of at most `ROW_GROUP_BYTES`."""
    group: list[S] = []
    size = 0
    for photo in photos:
        if group and size + photo.size_bytes > ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(photo)
        size += photo.size_bytes
    if group:
        yield group


class PhotoFile(pq.ParquetWriter):  # type: ignore[misc]
    """A shard being written; `close` stores the CRC-32 of each photo in its metadata.

    Args:
        is_fresh: see `writer`.
    """

    def __init__(self, sink: Any, is_fresh: bool, **options: Any) -> None:
        self._crc32s: list[int] | None = [] if is_fresh else None
        super().__init__(
            sink, PHOTO_SCHEMA.with_metadata({PAGE_CHECKSUMS_KEY: "pages"} if is_fresh else None), **options
        )

    def write_table(self, table: pa.Table, *args: Any, **options: Any) -> None:
        self.add(table, crc32s(table["image"]) if self._crc32s is not None else ())

    def add(self, table: pa.Table, crc32s: Sequence[int]) -> None:
        """Write a row group of photos whose CRC-32 is known."""
        if self._crc32s is not None:
            self._crc32s += crc32s
        super().write_table(table)

    def close(self) -> None:
        if self.is_open and self._crc32s is not None:
            self.add_key_value_metadata({CRC32_KEY: encode(self._crc32s)})
        super().close()


def writer(sink: Any, *, is_fresh: bool = True) -> PhotoFile:
    """Open a writer: images uncompressed and without statistics, papers compressed.

    Args:
        is_fresh: the photos were hashed by this process. False if they are copied from a shard whose bytes may have
            changed on disk: checksums computed now would prove nothing, so none are stored, and readers use each
            photo's sha256.
    """
    return PhotoFile(
        sink,
        is_fresh,
        compression={name: "none" if name == "image" else "zstd" for name in PHOTO_SCHEMA.names},
        use_dictionary=["source", "licence", "licence_version", "licence_url", "permission", "format"],
        write_statistics=["id", "source", "licence", "width_px", "height_px", "fetched_at"],  # columns to search by
        write_page_checksum=True,
        write_batch_size=1,  # one photo per page, or a few small ones, so that streaming never holds a row group twice
    )
