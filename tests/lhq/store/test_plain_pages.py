"""Photos read straight from their pages are those that Arrow reads, and damage to a page is never a whole photo."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.crawl.shard_file import writer
from lhq.errors import ShardDamaged
from lhq.records import PHOTO_SCHEMA, PLACE
from lhq.store.plain_pages import plain_values
from lhq.store.shards import Shards

SIZES = (0, 1, 130, 5000, 70_000, 300, 0, 1_200_000, 17)
PHOTOS = [np.random.default_rng(n).bytes(size) for n, size in enumerate(SIZES)]
FIRM, LOOSE = (pa.schema([pa.field("image", pa.binary(), nullable=is_loose)]) for is_loose in (False, True))


def _file(path: Path, schema: pa.Schema, **options: Any) -> pq.FileMetaData:
    given = {"compression": "none", "use_dictionary": False, "write_statistics": False} | options
    pq.write_table(pa.table({"image": PHOTOS}, schema), path, **given)
    return pq.read_metadata(path)


def _row(id: str, data: bytes) -> dict[str, Any]:
    kinds = {field.name: field.type for field in PHOTO_SCHEMA if field.name not in PLACE}
    blank = {
        name: "" if pa.types.is_string(kind) else [] if pa.types.is_list(kind) else 0 for name, kind in kinds.items()
    }
    return blank | {"id": id, "camera": "", "image": data}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"write_batch_size": 1, "row_group_size": 4},
        {"write_page_checksum": True},
        {"data_page_size": 1},
    ],
    ids=str,
)
def test_plain_pages_are_read_completely(tmp_path: Path, options: dict[str, Any]) -> None:
    about = _file(tmp_path / "a.parquet", FIRM, **options)
    assert list(plain_values(str(tmp_path / "a.parquet"), about, "image")) == PHOTOS


@pytest.mark.parametrize(
    ("schema", "options"),
    [
        (LOOSE, {}),
        (FIRM, {"compression": "zstd"}),
        (FIRM, {"use_dictionary": True}),
        (FIRM, {"column_encoding": "DELTA_LENGTH_BYTE_ARRAY"}),
        (FIRM, {"data_page_version": "2.0"}),
    ],
    ids=str,
)
def test_other_pages_are_left_to_arrow(tmp_path: Path, schema: pa.Schema, options: dict[str, Any]) -> None:
    about = _file(tmp_path / "a.parquet", schema, **options)
    assert list(plain_values(str(tmp_path / "a.parquet"), about, "image")) == []


def test_a_flipped_byte_of_a_shard_never_passes_for_an_intact_photo(tmp_path: Path) -> None:
    photos = [np.random.default_rng(n).bytes(size) for n, size in enumerate((9000, 40, 700, 9000))]
    rows = [_row(f"x:{n}", data) for n, data in enumerate(photos)]
    shards = Shards(str(tmp_path), "photos")
    out = io.BytesIO()
    with writer(out) as shard:
        shard.write_table(pa.Table.from_pylist(rows[:2], PHOTO_SCHEMA))
        shard.write_table(pa.Table.from_pylist(rows[2:], PHOTO_SCHEMA))
    whole = bytearray(out.getvalue())
    sha256 = [hashlib.sha256(data).hexdigest() for data in photos]
    Path(shards.path(0)).parent.mkdir()
    first = min(whole.index(data) for data in photos)
    heads = [at for data in photos for at in range(whole.index(data) - 40, whole.index(data))]
    for at in [*heads, *random.Random(0).sample(range(first, len(whole)), 200)]:
        rotten = bytearray(whole)
        rotten[at] ^= 1 << at % 8
        Path(shards.path(0)).write_bytes(rotten)
        try:
            for data, (seen, is_whole) in zip(photos, shards.checked_images(0, sha256), strict=False):
                assert not is_whole or seen == data, f"byte {at}"
        except ShardDamaged:
            continue


def test_a_truncated_file_gives_the_photos_before_the_cut(tmp_path: Path) -> None:
    about = _file(tmp_path / "a.parquet", FIRM, write_batch_size=1, data_page_size=1)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:70_000])
    assert list(plain_values(str(tmp_path / "a.parquet"), about, "image")) == PHOTOS[:4]
