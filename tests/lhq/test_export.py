"""Export as its users meet it: a folder that loads, stays stable, survives kills, and refuses what it must."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lhq.engines import Engine
from lhq.engines.local import Local
from lhq.errors import InputError
from lhq.export import ExportReport, ExportSettings, export
from tests.lhq.making import RIGHTS, Here, files, painted_store


def run(store: Path, to: Path, engine: Engine | None = None, **settings: Any) -> ExportReport:
    chosen = ExportSettings(**{"to": str(to), "variants": ("64",), "validation": 0.25, **settings})
    return export(str(store), chosen, rights_of=RIGHTS, engine=engine or Here())


def rows(folder: Path, name: str = "data") -> list[dict[str, Any]]:
    return [row for path in sorted((folder / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_it_loads_with_pictures(tmp_path: Path) -> None:
    report = run(painted_store(tmp_path / "store"), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert report.num_rows == 24
    assert {name: split.num_rows for name, split in loaded.items()} == report.written[0].rows
    first = loaded["train"][0]
    assert isinstance(first["image"], Image.Image)
    assert first["image"].size == (64, 64)
    assert first["licence"] == "cc-by-2.0"
    assert loaded["train"].features["image"] == datasets.Image()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store")
    run(store, tmp_path / "one")
    run(shutil.copytree(store, tmp_path / "moved"), tmp_path / "two", Local(2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_no_verdicts_is_said(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store")
    (store / "verdicts.parquet").unlink()
    with pytest.raises(InputError, match="run lhq filter first"):
        run(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
