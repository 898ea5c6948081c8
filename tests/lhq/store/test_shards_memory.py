"""Reading a shard of photos takes constant memory, and pictures are stored as received."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lhq.store.shards import Shards

PICTURE_BYTES = 2 * 2**20


def test_batches_hold_one_row_group_in_memory(tmp_path: Path) -> None:
    shards = Shards(str(tmp_path), "photos")
    rows = {"id": [f"x:{n}" for n in range(24)], "image": [bytes([n]) * PICTURE_BYTES for n in range(24)]}
    shards.write(0, pa.table(rows), row_group_size=2)
    del rows
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for batch in shards.batches(0, ["id", "image"], rows=2):
        assert batch["image"][0].as_buffer()[0] == seen
        seen += len(batch)
        most = max(most, pa.total_allocated_bytes() - before)
        del batch
    assert seen == 24
    assert most < 10 * PICTURE_BYTES, f"{most / PICTURE_BYTES:.1f} pictures held at once"


def test_images_have_no_dictionary(tmp_path: Path) -> None:
    shards = Shards(str(tmp_path), "photos")
    shards.write(0, pa.table({"id": ["x:1", "x:2"], "licence": ["cc0", "cc0"], "image": [b"a" * 9000, b"b" * 9000]}))
    group = pq.ParquetFile(shards.path(0)).metadata.row_group(0)
    assert [group.column(n).has_dictionary_page for n in range(3)] == [True, True, False]
    assert group.column(2).compression == "UNCOMPRESSED"


def test_images_are_read_one_at_a_time(tmp_path: Path) -> None:
    shards = Shards(str(tmp_path), "photos")
    rows = {"id": [f"x:{n}" for n in range(24)], "image": [bytes([n]) * PICTURE_BYTES for n in range(24)]}
    shards.write(0, pa.table(rows), row_group_size=2)
    del rows
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for data in shards.images(0):
        assert data == bytes([seen]) * PICTURE_BYTES
        seen += 1
        most = max(most, pa.total_allocated_bytes() - before)
    assert seen == 24
    assert most < 8 * PICTURE_BYTES, f"{most / PICTURE_BYTES:.1f} pictures held at once"


def test_a_photo_without_bytes_is_read_as_empty(tmp_path: Path) -> None:
    shards = Shards(str(tmp_path), "photos")
    shards.write(0, pa.table({"id": ["x:1", "x:2", "x:3"], "image": [b"a", None, b"c"]}))
    assert list(shards.images(0)) == [b"a", b"", b"c"]
