"""`croissant.json` against the validator and loader of its own makers."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import mlcroissant
from PIL import Image

from lhq.export import ExportSettings, export
from tests.lhq.making import RIGHTS, Here, painted_store


def test_it_is_valid_and_loads_the_pictures(tmp_path: Path) -> None:
    settings = ExportSettings(to=str(tmp_path / "out"), variants=("32", "16-png"), validation=0.3)
    export(str(painted_store(tmp_path / "store", 8)), settings, rights_of=RIGHTS, engine=Here())
    read = mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))
    assert not read.metadata.ctx.issues.errors
    assert not read.metadata.ctx.issues.warnings
    assert read.metadata.data_limitations
    records = list(read.records("16-png"))
    assert len(records) == 8
    assert isinstance(records[0]["16-png/image"], Image.Image)
    assert records[0]["16-png/image"].size == (16, 16)
    assert records[0]["16-png/licence"] == b"cc-by-2.0"


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
