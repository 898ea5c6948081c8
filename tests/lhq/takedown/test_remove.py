"""A removed photo is gone from the next export, under any id, and stays out of crawls."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from lhq import checked_json
from lhq.errors import InputError, ShardDamaged
from lhq.export import ExportSettings, export
from lhq.pipeline import Pipeline, load
from lhq.store import copies, small_tables, tombstones
from lhq.takedown.remove import read_names, remove
from tests.lhq.making import RIGHTS, Here, add_shard, judge, painted_store, photo, scene
from tests.lhq.typed import Lhq


def exported(store: Path, out: Path) -> set[str]:
    settings = ExportSettings(to=str(out), variants=("32",), validation=0)
    export(str(store), settings, rights_of=RIGHTS, engine=Here())
    return {
        id for path in (out / "data").glob("*.parquet") for id in pq.read_table(path, columns=["id"])["id"].to_pylist()
    }


def test_a_removed_photo_is_not_in_the_next_export(tmp_path: Path) -> None:
    store, out = painted_store(tmp_path / "store", 6), tmp_path / "out"
    assert len(exported(store, out)) == 6
    done = remove(
        str(store), ["flickr:0002", "https://photos.example/0004", "https://photos.example/0002.jpg"], reason="asked"
    )
    assert done.new == ("flickr:0002", "flickr:0004")
    assert exported(store, out) == {"flickr:0000", "flickr:0001", "flickr:0003", "flickr:0005"}
    for path in out.rglob("*"):
        if path.is_file():
            assert b"photos.example/0002" not in path.read_bytes(), path
    for name in ("manifest.parquet", "CREDITS.parquet"):
        assert not {"flickr:0002", "flickr:0004"} & set(pq.read_table(out / name)["id"].to_pylist())
    assert "| dropped: taken down | 2 |" in (out / "README.md").read_text()
    assert tombstones.removed_ids(str(store)) == {"flickr:0002", "flickr:0004"}


def test_removed_bytes_are_not_crawled_under_another_id(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 3)
    remove(str(store), ["flickr:0001"])
    add_shard(store, 1, [photo(scene(1), "again", "folder", "own")])
    judge(store)
    assert exported(store, tmp_path / "out") == {"flickr:0000", "flickr:0002"}


def test_an_id_unknown_to_the_store_is_excluded_too(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)
    done = remove(str(store), ["flickr:99"])
    assert (done.new, done.unseen) == (("flickr:99",), ("flickr:99",))
    again = remove(str(store), ["flickr:99", "flickr:0"])
    assert (again.new, again.known) == (("flickr:0",), ("flickr:99",))
    assert tombstones.removed_ids(str(store)) == {"flickr:99", "flickr:0"}


@pytest.mark.parametrize("name", ["99", "https://photos.example/unknown", "flickr:"])
def test_an_invalid_name_removes_nothing(tmp_path: Path, name: str) -> None:
    store = painted_store(tmp_path / "store", 2)
    with pytest.raises(InputError, match=name):
        remove(str(store), ["flickr:0000", name])
    assert not tombstones.removed_ids(str(store))


def test_names_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("# asked on 1 May\nflickr:1\n\n  flickr:2  \n")
    assert read_names(str(tmp_path / "ids.txt")) == ["flickr:1", "flickr:2"]
    with pytest.raises(InputError, match="can't be read"):
        read_names(str(tmp_path / "none.txt"))


@pytest.mark.parametrize("damage", ["torn", "a word flipped", "gone", "an older copy", "of another store"])
def test_damaged_tombstones_stop_the_export(damage: str, tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 3)
    path = store / tombstones.NAME
    remove(str(store), ["flickr:0001"])
    older = path.read_bytes()
    remove(str(store), ["flickr:0000"])
    remove(str(tmp_path / "other"), ["flickr:0002"])
    whole = path.read_bytes()
    damaged = {
        "torn": b"PAR1 torn",
        "a word flipped": whole.replace(b"removed_at", b"remowed_at"),
        "an older copy": older,
        "of another store": (tmp_path / "other" / tombstones.NAME).read_bytes(),
    }
    path.unlink() if damage == "gone" else path.write_bytes(damaged[damage])
    with pytest.raises(ShardDamaged, match=r"removed\.parquet: (gone|not the file that was written last)"):
        exported(store, tmp_path / "out")
    (store / small_tables.CHECKSUMS).unlink()  # as older versions left it, or the user who changed the table
    if damage == "an older copy":
        assert tombstones.removed_ids(str(store)) == {"flickr:0001"}
    if damage == "a word flipped":
        with pytest.raises(ShardDamaged, match="not readable"):
            tombstones.read(str(store))


def test_tombstones_are_sound_at_any_moment_of_writing_them(tmp_path: Path) -> None:
    """First `tables.json` holds the old and the new checksum, then the table is written, then it holds the new one."""
    store = str(tmp_path / "store")
    path, sums = tmp_path / "store" / tombstones.NAME, tmp_path / "store" / small_tables.CHECKSUMS
    old_bytes, old = b"", ""
    for number in range(2):
        remove(store, [f"flickr:{number}"])
        new_bytes, text = path.read_bytes(), sums.read_text()
        (new,) = json.loads(text)["tables"][tombstones.NAME]
        sums.write_text(json.dumps(checked_json.sealed({"tables": {tombstones.NAME: [old, new]}})))
        assert len(tombstones.read(store)) == number + 1
        path.write_bytes(old_bytes) if old_bytes else path.unlink()
        assert len(tombstones.read(store)) == number
        path.write_bytes(new_bytes)
        sums.write_text(text)
        old_bytes, old = new_bytes, new
    sums.write_text(sums.read_text().replace(old, "00000000"))
    with pytest.raises(ShardDamaged, match=r"tables\.json: not readable"):
        tombstones.read(store)


def test_concurrent_takedowns_lose_no_tombstone(tmp_path: Path) -> None:
    store = str(painted_store(tmp_path / "store", 1))
    start = threading.Barrier(8)

    def take_down(person: int) -> None:
        start.wait()
        for number in range(5):
            remove(store, [f"flickr:{person}00{number}"])

    with ThreadPoolExecutor(8) as people:
        list(people.map(take_down, range(8)))
    assert tombstones.removed_ids(store) == {f"flickr:{person}00{number}" for person in range(8) for number in range(5)}


PIPELINE = """
store = "{store}"
queries = ["lake"]
want = 5
[filter.duplicates]
[export]
variants = ["32"]
"""


@pytest.fixture
def pair(tmp_path: Path) -> Pipeline:
    """A filtered store of which `big` and `small` are versions of one scene, and an export of `big` and `other`."""
    picture = Image.open(io.BytesIO(scene(5, 480, 320)))
    small, again = io.BytesIO(), io.BytesIO()
    picture.resize((240, 160)).save(small, "JPEG")
    picture.save(again, "JPEG", quality=60)
    versions = [photo(scene(5, 480, 320), "big"), photo(small.getvalue(), "small"), photo(again.getvalue(), "a b")]
    add_shard(tmp_path / "store", 0, [*versions, photo(scene(9, 480, 320), "other")])
    (tmp_path / "p.toml").write_text(PIPELINE.format(store=tmp_path / "store"))
    pipeline = load(tmp_path / "p.toml")
    pipeline.filter()
    pipeline.export(format="zip")
    return pipeline


def published(pipeline: Pipeline) -> list[str]:
    out = pipeline.export().report.to
    return sorted(pq.read_table(f"{out}/manifest.parquet")["source_id"].to_pylist())


def test_near_duplicates_are_removed_too_or_named(pair: Pipeline) -> None:
    assert pair.near_duplicates(["flickr:big"]).of.keys() == {"flickr:small", "flickr:a b"}
    done = pair.remove(["flickr:big"], reason="asked")
    assert done.duplicates.keys() == {"flickr:small", "flickr:a b"}
    assert all(of.startswith("likeness ") and of.endswith(" to flickr:big") for of in done.duplicates.values())
    pair.filter()
    assert published(pair) == ["other"]
    reasons = {row["id"]: row["reason"] for row in tombstones.read(pair.file.store).to_pylist()}
    assert reasons["flickr:big"] == "asked"
    assert reasons["flickr:small"].endswith("to flickr:big; asked")


def test_near_duplicates_left_in_the_store_are_reported(pair: Pipeline, lhq: Lhq) -> None:
    done = lhq("remove", pair.file.path, "flickr:big", "--duplicates", "keep")
    assert done.stdout.split() == ["flickr:big"]
    assert "flickr:small: likeness" in done.stderr
    assert "left, and may be published in their place" in done.stderr
    pair.filter()
    assert published(pair) in (["a b", "other"], ["other", "small"])


def test_every_remaining_copy_is_named_with_advice(pair: Pipeline, tmp_path: Path) -> None:
    pair.report(str(tmp_path / "report.html"))
    copies.record(pair.file.local, copies.Copy("repository", "org/set"))
    out = Path(pair.file.store) / "export"
    shutil.copytree(out, out.with_name("export.old"))
    (out.with_name("export.part") / "data").mkdir(parents=True)
    found = {(held.kind, Path(held.place).name): held for held in pair.remove(["flickr:big"]).copies}
    assert {key: held.num for key, held in found.items()} == {
        ("dataset", "export"): 1,
        ("archives", "export-zip"): 1,
        ("dataset", "export.old"): 1,
        ("dataset", "export.part"): None,
        ("report", "report.html"): None,
        ("repository", "set"): None,
    }
    assert "super_squash_history" in found["repository", "set"].advice
    assert f"lhq export {pair.file.path}" in found["dataset", "export"].advice
    shutil.rmtree(out.with_name("export.part"))
    pair.export(format="zip")
    again = {(held.kind, Path(held.place).name) for held in pair.remove(["flickr:big"]).copies}
    assert again == {("report", "report.html"), ("repository", "set")}


def test_a_damaged_record_of_copies_is_named_before_anything_changes(pair: Pipeline, tmp_path: Path) -> None:
    """It was taken for an empty one, and the next export wrote over it: a takedown did not know of the Hub any more."""
    copies.record(pair.file.local, copies.Copy("repository", "org/set"))
    record = Path(pair.file.local) / copies.NAME
    whole = record.read_text()
    for damaged in (whole.replace("org/set", "org/sat"), whole[: len(whole) // 2], ""):
        record.write_text(damaged)
        for act in (lambda: pair.remove(["flickr:big"]), pair.export, lambda: pair.report(str(tmp_path / "r.html"))):
            with pytest.raises(ShardDamaged, match=r"copies.json: not readable .*restore it, or delete it"):
                act()
        assert record.read_text() == damaged
        assert not tombstones.removed_ids(pair.file.store)
    record.write_text(json.dumps(json.loads(whole)["copies"]))  # as earlier versions wrote it
    assert copies.read(pair.file.local)[-1].place == "org/set"
    manifest = Path(pair.file.store) / "export" / "manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-100])
    held = {one.place: one.num for one in pair.remove(["flickr:big"]).copies}
    assert held[str(manifest.parent.resolve())] is None, "an export whose manifest rotted may still hold the photo"


def test_following_the_advice_clears_each_copy(pair: Pipeline, lhq: Lhq, tmp_path: Path) -> None:
    """Each advice is run as it was said; then no copy is left."""
    shutil.rmtree(Path(pair.file.store) / "export-zip")
    for place in ("elsewhere", "a place"):
        assert lhq("export", pair.file.path, "--to", tmp_path / place, "--format", "webdataset").returncode == 0
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "elsewhere.old")
    left = pair.remove(["flickr:big"]).copies
    assert {Path(one.place).name for one in left} >= {
        "export",
        "elsewhere",
        "elsewhere-webdataset",
        "a place",
        "a place-webdataset",
    }
    for one in left:
        words = shlex.split(one.advice.rpartition(": ")[2].partition(" writes")[0].partition(" clears")[0])
        assert lhq(*words[1:]).returncode == 0, one.advice
    assert not pair.remove(["flickr:big"]).copies


def test_photos_that_were_not_measured_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PIPELINE.format(store=painted_store(tmp_path / "store", 4)))
    done = load(tmp_path / "p.toml").remove(["flickr:0001"])
    assert (done.duplicates, done.num_unmeasured) == ({}, 4)
