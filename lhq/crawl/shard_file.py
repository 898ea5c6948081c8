"""Photos → a shard's Parquet file: row groups of at most 16 MB, bytes as they are, a CRC-32 of each photo."""

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
    """Photos in the row groups that they make."""
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
    """A shard being written; states the CRC-32 of each photo when it is closed.

    Args:
        is_fresh: as `writer` has it.
    """

    def __init__(self, sink: Any, is_fresh: bool, **options: Any) -> None:
        self._sums: list[int] | None = [] if is_fresh else None
        super().__init__(
            sink, PHOTO_SCHEMA.with_metadata({PAGE_CHECKSUMS_KEY: "pages"} if is_fresh else None), **options
        )

    def write_table(self, table: pa.Table, *args: Any, **options: Any) -> None:
        self.add(table, crc32s(table["image"]) if self._sums is not None else ())

    def add(self, table: pa.Table, sums: Sequence[int]) -> None:
        """Write a row group of photos whose CRC-32 is known."""
        if self._sums is not None:
            self._sums += sums
        super().write_table(table)

    def close(self) -> None:
        if self.is_open and self._sums is not None:
            self.add_key_value_metadata({CRC32_KEY: encode(self._sums)})
        super().close()


def writer(sink: Any, *, is_fresh: bool = True) -> PhotoFile:
    """The writer of photo shards: bytes as they are, papers packed, no statistics over pictures.

    Args:
        is_fresh: the photos come from where they were hashed. False where they are copied from a shard, whose pages may
            have rotted since: their new checksums then prove nothing, and readers go by each photo's sha256.
    """
    return PhotoFile(
        sink,
        is_fresh,
        compression={name: "none" if name == "image" else "zstd" for name in PHOTO_SCHEMA.names},
        use_dictionary=["source", "licence", "licence_version", "licence_url", "permission", "format"],
        write_statistics=["id", "source", "licence", "width_px", "height_px", "fetched_at"],  # what is sought by
        write_page_checksum=True,
        write_batch_size=1,  # a page a photo, or some small ones: whoever streams a row group never holds it twice
    )
