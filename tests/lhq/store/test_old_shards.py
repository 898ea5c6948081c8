"""Stores written before a column was added still open: photos, open spools, waiting candidates, manifests."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.crawl.frontier import Frontier
from lhq.crawl.spool import Spool
from lhq.errors import ShardDamaged
from lhq.export import ExportSettings, export, manifest
from lhq.records import ADDED, PAPERS, PHOTO_SCHEMA
from lhq.store.shards import Shards
from lhq.takedown.erase import erase
from lhq.takedown.remove import remove
from tests.lhq.making import RIGHTS, Here, judge, painted_store, photo, scene

OLD = pa.schema([field for field in PHOTO_SCHEMA if field.name not in ADDED])


def old_store(store: Path, num: int = 6) -> Path:
    """A shard as the first version wrote it."""
    rows = [{name: row[name] for name in OLD.names} for row in (photo(scene(n), f"{n:04d}") for n in range(num))]
    path = Path(Shards(str(store), "photos").path(0))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, OLD), path, row_group_size=2)
    judge(store)
    return store


def test_new_columns_hold_their_defaults(tmp_path: Path) -> None:
    photos = Shards(str(old_store(tmp_path / "store")), "photos")
    whole = photos.read(0).cast(PHOTO_SCHEMA)
    assert whole.schema == PHOTO_SCHEMA
    for row in whole.to_pylist():
        assert {name: row[name] for name in ADDED} == ADDED
    assert photos.read(0, ["reserved", "id"]).to_pylist()[0] == {"reserved": [], "id": "flickr:0000"}
    assert len(photos.read(0, ["permits"])) == 6
    assert sum(len(batch) for batch in photos.batches(0, [*PAPERS, "image"], rows=4)) == 6
    assert {*next(iter(photos.batches(0, ["camera"]))).schema.names} == {"camera"}


def test_any_other_missing_column_is_damage(tmp_path: Path) -> None:
    path = Path(Shards(str(tmp_path), "photos").path(0))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["a:1"]}), path)
    with pytest.raises(ShardDamaged, match="no column licence"):
        Shards(str(tmp_path), "photos").read(0, ["id", "licence"])
    facts = Shards(str(tmp_path), "facts/size")
    facts.write(0, pa.table({"id": ["a:1"]}))
    with pytest.raises(ShardDamaged, match="no column camera"):
        facts.read(0, ["camera"])


def test_an_old_store_is_exported_and_erased_as_a_new_one(tmp_path: Path) -> None:
    old, new = old_store(tmp_path / "old"), painted_store(tmp_path / "new", 6)
    for store in (old, new):
        remove(str(store), ["flickr:0003"])
        erase(str(store), str(store))
        settings = ExportSettings(to=str(tmp_path / f"{store.name}-out"), variants=("32",))
        export(str(store), settings, rights_of=RIGHTS, engine=Here())
    made = [pq.read_table(tmp_path / f"{name}-out" / "data").to_pylist() for name in ("old", "new")]
    assert made[0] == made[1]
    assert len(made[0]) == 5
    assert Shards(str(old), "photos").read(0).cast(PHOTO_SCHEMA).num_rows == 5


def test_a_spool_left_open_by_an_older_version_is_sealed(tmp_path: Path) -> None:
    data = scene(1)
    papers = {name: value for name, value in photo(data, "p").items() if name in OLD.names and name != "image"}
    block = json.dumps({**papers, "fetched_at": 1_700_000_000_000}).encode()
    path = tmp_path / "spool" / "000000.spool"
    path.parent.mkdir()
    path.write_bytes(struct.pack("<4sIQI", b"LHQ1", len(block), len(data), zlib.crc32(block)) + block + data)
    shards = Shards(str(tmp_path), "photos")
    assert Spool(tmp_path, 0).seal(shards, lambda ids: {}) == 1
    row = shards.read(0).to_pylist()[0]
    assert (row["image"], row["permits"], row["latitude"]) == (data, [], None)


def test_candidates_of_an_older_frontier_are_read(tmp_path: Path) -> None:
    papers = {
        "source": "flickr",
        "source_id": "1",
        "url": "http://h/1",
        "page_url": "http://h",
        "author": "A",
        "author_url": "",
        "licence": "cc-by-2.0",
        "query": "lake",
        "width_px": 9,
        "height_px": 9,
        "title": "",
        "description": "",
        "tags": ["x"],
        "taken_at": "",
        "permission": "said so",
        "report_use_url": None,
    }
    frontier = Frontier(tmp_path / "frontier.sqlite")
    with frontier._write() as db:
        db.execute(
            "INSERT INTO candidates (id, source, licence, host, papers) VALUES ('flickr:1', 'flickr', 'x', 'h', ?)",
            (json.dumps(papers),),
        )
    (found,) = frontier.candidates_of(["flickr:1"])
    assert (found.tags, found.permission, found.permits) == (("x",), "said so", ())
    frontier.close()


def test_an_old_manifest_is_read(tmp_path: Path) -> None:
    table = Shards(str(old_store(tmp_path / "store")), "photos").read(0, [n for n in OLD.names if n != "image"])
    pq.write_table(table, tmp_path / "manifest.parquet")
    found = manifest.read(str(tmp_path / "manifest.parquet"))
    assert found["permits"].to_pylist() == [[]] * 6
    assert found.schema.field("latitude") == PHOTO_SCHEMA.field("latitude")
