"""What is taken down is gone from the next export, under any id, and stays out of crawls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lhq.errors import InputError, ShardDamaged
from lhq.export import ExportSettings, export
from lhq.store import tombstones
from lhq.takedown.remove import read_names, remove
from tests.lhq.making import RIGHTS, Here, add_shard, judge, painted_store, photo, scene


def exported(store: Path, out: Path) -> set[str]:
    settings = ExportSettings(to=str(out), variants=("32",), validation=0)
    export(str(store), settings, rights_of=RIGHTS, engine=Here())
    return {
        id for path in (out / "data").glob("*.parquet") for id in pq.read_table(path, columns=["id"])["id"].to_pylist()
    }


def test_gone_from_the_next_export(tmp_path: Path) -> None:
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


def test_the_same_bytes_do_not_come_back_under_another_id(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 3)
    remove(str(store), ["flickr:0001"])
    add_shard(store, 1, [photo(scene(1), "again", "folder", "own")])
    judge(store)
    assert exported(store, tmp_path / "out") == {"flickr:0000", "flickr:0002"}


def test_an_id_never_seen_is_kept_out_all_the_same(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)
    done = remove(str(store), ["flickr:99"])
    assert (done.new, done.unseen) == (("flickr:99",), ("flickr:99",))
    again = remove(str(store), ["flickr:99", "flickr:0"])
    assert (again.new, again.known) == (("flickr:0",), ("flickr:99",))
    assert tombstones.removed_ids(str(store)) == {"flickr:99", "flickr:0"}


@pytest.mark.parametrize("name", ["99", "https://photos.example/unknown", "flickr:"])
def test_a_name_that_is_none_takes_nothing_down(tmp_path: Path, name: str) -> None:
    store = painted_store(tmp_path / "store", 2)
    with pytest.raises(InputError, match=name):
        remove(str(store), ["flickr:0000", name])
    assert not tombstones.removed_ids(str(store))


def test_names_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("# asked on 1 May\nflickr:1\n\n  flickr:2  \n")
    assert read_names(str(tmp_path / "ids.txt")) == ["flickr:1", "flickr:2"]
    with pytest.raises(InputError, match="can't be read"):
        read_names(str(tmp_path / "none.txt"))


def test_damaged_tombstones_stop_the_export(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)
    remove(str(store), ["flickr:0000"])
    (store / tombstones.NAME).write_bytes(b"PAR1 torn")
    with pytest.raises(ShardDamaged, match=r"removed\.parquet"):
        exported(store, tmp_path / "out")


def test_takedowns_at_once_lose_none(tmp_path: Path) -> None:
    store = str(painted_store(tmp_path / "store", 1))
    start = threading.Barrier(8)

    def take_down(person: int) -> None:
        start.wait()
        for number in range(5):
            remove(store, [f"flickr:{person}00{number}"])

    with ThreadPoolExecutor(8) as people:
        list(people.map(take_down, range(8)))
    assert tombstones.removed_ids(store) == {f"flickr:{person}00{number}" for person in range(8) for number in range(5)}
