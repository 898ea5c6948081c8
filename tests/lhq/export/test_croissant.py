"""`croissant.json` against the official validator and loader."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lhq.export import ExportSettings, export
from lhq.store.shards import Shards
from tests.lhq.making import RIGHTS, Here, add_shard, judge, painted_store, photo, scene


def test_it_is_valid_and_loads_the_pictures_of_every_variant(tmp_path: Path) -> None:
    """With every optional column, lists and numbers that are empty, files of more than one format and more than one
    file a split."""
    sides = {"32": (32, 32), "16-png": (16, 16), "full": (480, 320)}
    settings = ExportSettings(
        to=str(tmp_path / "out"),
        variants=tuple(sides),
        validation=0.3,
        shard_mb=0.03,
        columns=("place", "camera", "size_sharpness"),
    )
    store = tmp_path / "store"
    odd = {"tags": [], "latitude": 46.5, "longitude": -7.9, "camera": "A camera"}
    rows = [photo(scene(n, format="PNG" if n % 3 else "JPEG"), f"{n:04d}", **(odd if n % 2 else {})) for n in range(8)]
    add_shard(store, 0, rows)
    judge(store)
    facts = [{"id": row["id"], "sharpness": None if n % 2 else 0.5} for n, row in enumerate(rows)]
    Shards(str(store), "facts/size").write(0, pa.Table.from_pylist(facts))
    export(str(store), settings, rights_of=RIGHTS, engine=Here())
    assert len(list((tmp_path / "out" / "data-full").iterdir())) > 2
    read = mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))
    assert not read.metadata.ctx.issues.errors
    assert not read.metadata.ctx.issues.warnings
    assert read.metadata.data_limitations
    assert [one.uuid for one in read.metadata.record_sets] == list(sides)
    manifest = {row["id"].encode(): row for row in pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()}
    for name, size in sides.items():
        records = list(read.records(name))
        assert {one[f"{name}/id"] for one in records} == manifest.keys()
        for one in records:
            row = manifest[one[f"{name}/id"]]
            assert isinstance(one[f"{name}/image"], Image.Image)
            assert one[f"{name}/image"].size == size
            assert one[f"{name}/licence"] == b"cc-by-2.0"
            assert [tag.decode() for tag in one[f"{name}/tags"]] == row["tags"]
            assert one[f"{name}/latitude"] == row["latitude"]


def test_it_lists_every_file_with_its_hash_and_no_other_date(tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ExportSettings(to=str(out), variants=("32",), validation=0.3)
    export(str(painted_store(tmp_path / "store", 8)), settings, rights_of=RIGHTS, engine=Here())
    text = (out / "croissant.json").read_text()
    described = json.loads(text)
    listed = {one["@id"]: one["sha256"] for one in described["distribution"] if one["@type"] == "cr:FileObject"}
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert listed.keys() == there - {"README.md", "croissant.json"}
    for name, sha256 in listed.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256
    assert set(re.findall(r"20\d\d-\d\d-\d\d", text)) == {"2026-05-01"}
    assert described["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"


def test_a_manifest_alone_is_described_too(tmp_path: Path) -> None:
    settings = ExportSettings(to=str(tmp_path / "out"), publish="manifest")
    export(str(painted_store(tmp_path / "store", 3)), settings, rights_of=RIGHTS, engine=Here())
    read = mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))
    assert not read.metadata.ctx.issues.errors
    assert len(list(read.records("manifest"))) == 3
