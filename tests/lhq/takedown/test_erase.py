"""Removed photos can be deleted: no byte stays in the store, and nothing else changes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.crawl.papers import now, papers_of
from lhq.crawl.spool import Spool
from lhq.errors import StoreError
from lhq.export import ExportSettings, export
from lhq.images import inspect
from lhq.records import Candidate
from lhq.store.lock import locked
from lhq.store.shards import Shards
from lhq.takedown.erase import erase
from lhq.takedown.remove import remove
from tests.lhq.making import RIGHTS, Here, add_shard, files, judge, painted_store, photo, scene

ROOT = Path(__file__).parents[3]


def store_of_three_shards(store: Path) -> Path:
    """12 photos in three shards, with facts of two measures, judged."""
    for shard in range(3):
        painted_store(store, 4, first=4 * shard, shard=shard)
        ids = Shards(str(store), "photos").read(shard, ["id"])["id"]
        for measure in ("size", "outliers"):
            facts = pa.table({"id": ids, "score": pa.array([4 * shard + n for n in range(4)], pa.float32())})
            Shards(str(store), f"facts/{measure}").write(shard, facts.replace_schema_metadata({"lhq.made": "so"}))
    return store


def in_order(store: Path, room: str = "photos") -> list[list[str]]:
    shards = Shards(str(store), room)
    return [shards.read(number, ["id"])["id"].to_pylist() for number in shards.numbers()]


def published(store: Path, to: Path) -> dict[str, str]:
    settings = ExportSettings(to=str(to), variants=("full",), validation=0)
    export(str(store), settings, rights_of=RIGHTS, engine=Here())
    return files(to / "data")


def test_erased_bytes_are_gone_and_nothing_else_changes(tmp_path: Path) -> None:
    store = store_of_three_shards(tmp_path / "store")
    untouched = files(store)["photos/000000.parquet"]
    remove(str(store), ["flickr:0005", "flickr:0008", "flickr:0009", "flickr:0010", "flickr:0011"])
    hidden = published(store, tmp_path / "hidden")
    done = erase(str(store), str(store))
    assert set(done.ids) == {"flickr:0005", "flickr:0008", "flickr:0009", "flickr:0010", "flickr:0011"}
    assert (done.shards, done.waiting, done.quarantined) == ((1, 2), (), ())
    for number in (5, 8, 9, 10, 11):
        for path in store.rglob("*.parquet"):
            data = path.read_bytes()
            assert scene(number)[-3000:-2800] not in data, path
            assert f"photos.example/{number:04d}".encode() not in data, path
    left = [["flickr:0000", "flickr:0001", "flickr:0002", "flickr:0003"], ["flickr:0004", "flickr:0006", "flickr:0007"]]
    assert in_order(store) == in_order(store, "facts/size") == in_order(store, "facts/outliers") == [*left, []]
    assert Shards(str(store), "facts/size").read(1)["score"].to_pylist() == [4, 6, 7]
    assert Shards(str(store), "facts/size").metadata(1)["lhq.made"] == "so"
    assert sorted(pq.read_table(store / "verdicts.parquet")["id"].to_pylist()) == sorted([*left[0], *left[1]])
    assert files(store)["photos/000000.parquet"] == untouched
    assert published(store, tmp_path / "erased") == hidden
    assert erase(str(store), str(store)).ids == ()


def test_the_same_bytes_under_another_id_are_erased_too(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 3)
    add_shard(store, 1, [photo(scene(1), "again", "folder", "own"), photo(scene(7), "other", "folder", "own")])
    judge(store)
    remove(str(store), ["flickr:0001"])
    assert set(erase(str(store), str(store)).ids) == {"flickr:0001", "folder:again"}
    assert in_order(store) == [["flickr:0000", "flickr:0002"], ["folder:other"]]


_KILLED = """
import os, signal, sys
from lhq.takedown import erase
calls = 0
def counted(write):
    def wrapped(*args, **more):
        global calls
        if calls == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return write(*args, **more)
    return wrapped
os.replace = counted(os.replace)
os.unlink = counted(os.unlink)
os.remove = counted(os.remove)
erase.erase(sys.argv[1], sys.argv[1])
"""


@pytest.mark.parametrize("step", range(6))
def test_an_erasure_killed_at_any_step_resumes(tmp_path: Path, step: int) -> None:
    store = store_of_three_shards(tmp_path / "store")
    remove(str(store), ["flickr:0005"])
    words = [sys.executable, "-c", _KILLED, str(store), str(step)]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    for number in range(3):  # facts that are there fit their shard
        for measure in ("size", "outliers"):
            room = Shards(str(store), f"facts/{measure}")
            if room.exists(number):
                assert room.read(number)["id"].to_pylist() == in_order(store)[number]
    erase(str(store), str(store))
    assert in_order(store)[1] == ["flickr:0004", "flickr:0006", "flickr:0007"]
    assert not any(scene(5)[-3000:-2800] in path.read_bytes() for path in (store / "photos").glob("*.parquet"))


def test_an_open_shard_and_quarantine_are_named(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)
    candidate = Candidate("flickr", "77", "https://a.example/77.jpg", "https://a.example/77", "A", "", "cc-by-2.0", "x")
    spool = Spool(store, 1)
    spool.append(papers_of(candidate, inspect(scene(77)), candidate.url, now()), scene(77))
    spool.close()
    (store / "quarantine" / "photos").mkdir(parents=True)
    (store / "quarantine" / "photos" / "000009.parquet").write_bytes(b"torn")
    remove(str(store), ["flickr:77", "flickr:0001"])
    done = erase(str(store), str(store))
    assert (done.ids, done.waiting) == (("flickr:0001",), ("flickr:77",))
    assert [Path(path).name for path in done.quarantined] == ["000009.parquet"]


def test_erasing_is_refused_while_a_crawl_runs(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)
    remove(str(store), ["flickr:0001"])
    before = files(store)
    with locked(str(store), "crawl"), pytest.raises(StoreError, match="another crawl is at work"):
        erase(str(store), str(store))
    assert {name: sum for name, sum in files(store).items() if name.endswith("parquet")} == {
        name: sum for name, sum in before.items() if name.endswith("parquet")
    }
