"""A store, an export and a run that the version before the rooms made (see make.py) open and go on."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

import alis
import lhq
from lhq.cli import cli
from lhq.errors import InputError
from lhq.store.shards import Shards

HERE = Path(__file__).parent
SAME_PIXELS = 1  # grey levels: another build of torch may sum in another order


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(HERE / f"{name}.tar.xz") as file:
        file.extractall(folder, filter="data")
    return folder / name


def pipeline_of(folder: Path) -> Path:
    """The old pipeline file, with its places as they are here."""
    path = folder / "pipeline.toml"
    text = path.read_text(encoding="utf-8")
    for key, place in (("store", folder / "store"), ("to", folder / "export")):
        text = re.sub(rf'^{key} = ".*"$', f'{key} = "{place}"', text, flags=re.M)
    # Since then a permission lists what it allows; a file with a sentence alone is refused with the words to write.
    allowed = '{ permits = ["train"], statement = "a test\'s own pictures" }'
    path.write_text(re.sub(r"^permission = .*$", f"permission = {allowed}", text, flags=re.M), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a store whose crawl was killed; nobody answers at its server's port."""
    return pipeline_of(unpacked("store", tmp_path))


def test_a_store_is_continued(file: Path) -> None:
    pipeline = lhq.load(file)
    status = pipeline.status()
    assert (status.num_kept, status.failed, status.judged) == (5, {"http-404": 1, "removed": 1}, {"": 3})
    assert status.num_candidates == status.num_kept + status.num_waiting + status.num_failed
    assert {one.id for one in pipeline.candidates(statuses=["kept"])} == {f"unsplash:p{n}" for n in (0, 2, 4, 5, 7)}
    done = pipeline.crawl(want=5)  # enough is there: what the killed crawl left is sealed, and nobody is asked
    assert (done.num_kept, done.num_new) == (5, 0)
    photos = Shards(pipeline.file.store, "photos")
    assert photos.numbers() == [0, 1]
    assert [len(photos.read(number, ["id"])) for number in (0, 1)] == [4, 2]
    filtered = pipeline.filter(workers=1)
    assert (filtered.num_photos, filtered.num_kept, filtered.failed) == (6, 6, [])
    assert pipeline.show("unsplash:p5").papers["author"] == "Author p5"


def test_facts_that_were_measured_are_not_measured_again(file: Path) -> None:
    """Facts of the earlier version are judged by today's limits, and stay as they are to the byte; but for those of a
    measure that measures otherwise since."""
    facts = {path: path.read_bytes() for path in (file.parent / "store/facts").rglob("*.parquet")}
    assert len(facts) == 3
    refused = CliRunner().invoke(cli, ["filter", str(file), "--judge-only"], standalone_mode=False).exception
    assert isinstance(refused, InputError)
    assert "facts/duplicates: no facts by the present settings" in refused.message
    assert "judge-only" in refused.hint
    done = CliRunner().invoke(cli, ["filter", str(file), "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    told = json.loads(done.stdout)
    assert (told["photos"], told["kept"], told["failed_shards"]) == (4, 4, [])
    assert told["dropped"] == {"size": 0, "text": 0, "duplicates": 0}
    again = {path.parent.name for path, before in facts.items() if path.read_bytes() != before}
    assert again == {"duplicates"}


def test_an_export_is_whole_and_is_replaced(tmp_path: Path) -> None:
    file = pipeline_of(unpacked("export", tmp_path))
    folder = file.parent / "export"
    before = pq.read_table(folder / "manifest.parquet")["id"].to_pylist()
    assert len(before) == len(pq.read_table(folder / "data")) == 4
    pipeline = lhq.load(file)
    assert pipeline.filter(workers=1).num_photos == 4
    exported = pipeline.export().report
    assert (exported.num_rows, exported.funnel) == (3, {"taken down": 1})
    assert sorted(pq.read_table(folder / "manifest.parquet")["id"].to_pylist()) == sorted(
        {*before} - {"folder:mine/1.jpg"}
    )
    assert lhq.verify(folder).problems == []


def test_a_run_paints_as_it_did(tmp_path: Path) -> None:
    folder = unpacked("run", tmp_path)
    tile = alis.Panorama(alis.load(folder / "run"), seed=7).tile(-3)
    was = np.asarray(Image.open(folder / "tile.png"), np.int16)
    assert np.abs(tile.astype(np.int16) - was).max() <= SAME_PIXELS


def test_a_run_is_resumed(tmp_path: Path) -> None:
    from alis.cli import cli

    folder = unpacked("run", tmp_path)
    was = json.loads((folder / "run/run.json").read_text(encoding="utf-8"))
    assert was, "the run's own words"
    model = ["--model.resolution=16", "--model.channel-base=64", "--model.channel-max=8", "--model.z-dim=8"]
    model += ["--model.w-dim=8", "--model.num-half-res=0", "--optim.batch=4", "--run.tick-kimg=0.008"]
    model += ["--run.snapshot-ticks=1", "--run.keep=1", "--loss.pl-weight=0", "--data.threads=1", "--run.kimg=0.024"]
    words = ["train", "--data", str(folder / "data"), "--out", str(folder / "run"), *model]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.exception
    assert [path.name for path in (folder / "run/snapshots").iterdir()] == ["000000024"]
    images = [json.loads(line)["images"] for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert images == sorted(images)
    assert images[-1] == 24
