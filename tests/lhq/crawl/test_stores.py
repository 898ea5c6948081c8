"""What a crawl may find in its store: foreign files, lost ones, leftovers of kills, a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import sqlite3
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from lhq import pipeline as way
from lhq.crawl.frontier import Kept
from lhq.crawl.spool import Spool
from lhq.crawl.writer import Comparison
from lhq.errors import LhqError, StoreError
from lhq.store.shards import Shards
from tests.lhq.bad_server import (
    Server,
    answer,
)
from tests.lhq.crawl.test_spool import offered, record, writer_of
from tests.lhq.making import killed_while_writing
from tests.lhq.services import crawl, kept, photo, pipeline, serve


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        path = pipeline(tmp_path, server, want=1)
        crawl(path)
        with sqlite3.connect(tmp_path / "store" / "frontier.sqlite") as db:
            db.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
        for command in (crawl, lambda path: way.load(path).status()):
            with pytest.raises(StoreError, match="newer lhq"):
                command(path)


@pytest.mark.parametrize("junk", [b"", b"not a database at all, but long enough to look at" * 30])
def test_a_file_that_is_no_frontier(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "store").mkdir()
    with Server() as server:
        serve(server, {"a": photo(1)})
        path = pipeline(tmp_path, server, want=1)
        (tmp_path / "store" / "frontier.sqlite").write_bytes(junk)
        if junk:
            with pytest.raises(StoreError, match="not a frontier"):
                crawl(path)
        else:
            assert way.load(path).crawl().num_kept == 1


def test_a_full_disk_is_one_error_and_the_crawl_goes_on_afterwards(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse to let the spool grow: the same path as a full disk, without filling one."""
    photos = {f"p{i}": photo(i, 200, 200) for i in range(20)}
    with Server() as server:
        serve(server, photos)
        path = pipeline(tmp_path, server, want=20)
        child = os.fork()
        if child == 0:
            code = 9
            try:
                import signal

                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))
                crawl(path)
            except StoreError as error:
                code = 3 if os.strerror(errno.EFBIG) in str(error) or "full" in str(error) else 4
            except BaseException:
                code = 5
            os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 3
        report = way.load(path).crawl()
        assert report.num_kept == 20
        assert {row["source_id"]: row["image"] for row in kept(tmp_path).to_pylist()} == photos
        # What was safe before the disk was full is not asked for again.
        assert 20 - report.num_new > 0
        asked = Counter(server.paths())
        assert sum(asked[f"/images/{name}"] == 1 for name in photos) >= 20 - report.num_new


def test_a_vanished_shard_is_told_and_fetched_again_on_demand(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(5)})
        path = pipeline(tmp_path, server, want=5)
        crawl(path)
        (tmp_path / "store/photos/000000.parquet").unlink()
        report = way.load(path).crawl()
        assert "000000.parquet is gone with 5 photos" in report.notes[0]
        assert report.lines()[-1] == "kept 5 of 5 · lost 5 of these · new 0"
        assert report.exit_code == 1
        again = way.load(path).crawl(retry=("damaged",))
        assert (again.num_new, again.exit_code) == (5, 0)
        assert kept(tmp_path).num_rows == 5


def test_a_shards_number_is_not_given_twice(tmp_path: Path) -> None:
    """The only shard is gone, its facts are not: new photos open a shard of a new number."""
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(5)})
        path = pipeline(tmp_path, server, want=5)
        crawl(path)
        (tmp_path / "store/photos/000000.parquet").rename(tmp_path / "elsewhere.parquet")
        serve(server, {f"q{i}": photo(10 + i) for i in range(3)}, query="hill")
        path = pipeline(tmp_path, server, want=8, queries=["hill"])
        assert way.load(path).crawl().num_new == 3
        assert Shards(str(tmp_path / "store"), "photos").numbers() == [1]
        (tmp_path / "elsewhere.parquet").rename(tmp_path / "store/photos/000000.parquet")
        assert Counter(row["source_id"][0] for row in kept(tmp_path).to_pylist()) == {"p": 5, "q": 3}


def test_what_killed_writers_left_is_deleted(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(2)})
        path = pipeline(tmp_path, server, want=2)
        folder = tmp_path / "store" / "photos"
        folder.mkdir(parents=True)
        killed_while_writing(folder / "000000.parquet")
        (folder / "000007.parquet.0123abcd.part").write_bytes(b"PAR1 of a version that wrote no checksum")
        assert len(list(folder.iterdir())) == 2
        theirs = {
            "mine.part",
            "000000.parquet.part",
            "000000.parquet.0123abcd.part",
            "000000.parquet.0123abcd01234567.part",
            "notes.0123abcd.part",
        }
        for name in theirs:
            (folder / name).write_bytes(b"somebody's own")
        (folder / "000001.parquet.0123abcd.part").symlink_to(folder / "mine.part")
        (folder / "000002.parquet.0123abcd.part").mkdir()
        crawl(path)
        theirs |= {"000001.parquet.0123abcd.part", "000002.parquet.0123abcd.part"}
        assert {file.name for file in folder.iterdir()} == {"000000.parquet", *theirs}


def test_a_lost_frontier_costs_no_photo(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(5)})
        path = pipeline(tmp_path, server, want=4)
        crawl(path)
        for file in (tmp_path / "store").glob("frontier.sqlite*"):
            file.unlink()
        asked = Counter(server.paths())
        report = way.load(path).crawl(want=5)
        assert (report.num_kept, report.num_new) == (5, 1)
        images = {name: num for name, num in Counter(server.paths()).items() if name.startswith("/images/")}
        assert images == {f"/images/p{i}": 1 for i in range(5)}
        assert sum(asked.values()) > 4
        assert sorted(kept(tmp_path)["source_id"].to_pylist()) == [f"p{i}" for i in range(5)]


def test_a_photo_that_the_filter_found_broken_is_fetched_into_its_place(tmp_path: Path) -> None:
    photos = {f"p{i}": photo(i, 300, 200) for i in range(6)}
    broken = photos["p2"][:1500] + photos["p2"][-2:]  # whole by its structure, broken within
    store = str(tmp_path / "store")
    with Server() as server:
        serve(server, photos)
        server.routes["/images/p2"] = answer(broken)
        path = pipeline(tmp_path, server, want=6)
        crawl(path)
        before = kept(tmp_path)["id"].to_pylist()
        errors = ["corrupt" if id == "unsplash:p2" else None for id in before]
        facts = Shards(store, "facts/size")
        facts.write(0, pa.table({"id": before, "error": pa.array(errors, pa.string())}))
        Shards(store, "facts/text").write(0, pa.table({"id": before}))

        assert "1 come as broken as before" in " ".join(way.load(path).crawl(retry=("corrupt",)).notes)
        assert facts.exists(0)
        server.routes["/images/p2"] = answer(b"", 404)
        said = " ".join(way.load(path).crawl(retry=("corrupt",)).notes)
        assert "0 come as broken as before, 1 could not be had" in said
        server.routes["/images/p2"] = answer(photos["p2"])
        report = way.load(path).crawl(retry=("corrupt",))
        assert "1 broken photos have fresh bytes" in " ".join(report.notes)
        rows = kept(tmp_path).to_pylist()
        assert [row["id"] for row in rows] == before, "number, order and ids stay"
        assert {row["source_id"]: row["image"] for row in rows} == photos
        assert all(hashlib.sha256(row["image"]).hexdigest() == row["sha256"] for row in rows)
        assert not facts.exists(0)
        assert not Shards(store, "facts/text").exists(0)


def test_an_unwritable_store_and_a_missing_source_are_said(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        path = pipeline(tmp_path, server, want=1)
        (tmp_path / "store").write_text("a file, not a folder")
        with pytest.raises(StoreError, match="can't be written"):
            crawl(path)
        path.write_text(f"store = '{tmp_path}/s'\nqueries = ['a']\nwant = 1\n")
        with pytest.raises(LhqError, match="no source"):
            crawl(path)


@pytest.mark.parametrize("swapped", ["frontier: an older copy", "frontier: another store's", "photos: another store's"])
def test_photos_and_frontier_of_different_origin_are_told(swapped: str, tmp_path: Path) -> None:
    """No photo in `photos/` is fetched again into a second place, and those that are missing can be had again."""
    shards, writers = [], []
    for number, names in enumerate((["p0", "p1"], ["p1", "p2"])):
        folder = tmp_path / f"{number}"
        frontier, numbers = offered(folder, 3)
        sealed = Spool(folder, 0)
        for name in names:
            sealed.append(record(name, name.encode()), name.encode())
        shards.append(Shards(str(folder), "photos"))
        if swapped == "frontier: an older copy":
            names = names[:1]  # the rest was kept after it was copied
        frontier.keep([Kept(numbers[name], 0, 2) for name in names])
        sealed.seal(shards[-1], lambda ids: {})
        writers.append((folder, frontier))
    (folder, frontier), photos = writers[0], shards[0]
    if swapped == "frontier: another store's":
        frontier = writers[1][1]
    if swapped == "photos: another store's":
        photos = shards[1]
    writer = writer_of(folder, frontier, photos)
    found = writer.compare()
    assert found.num_adopted == 1
    assert (
        dict(found.lacking)
        == {
            "frontier: an older copy": {},
            "frontier: another store's": {0: ["s:p2"]},
            "photos: another store's": {0: ["s:p0"]},
        }[swapped]
    )
    held = set(photos.read(0, ["id"])["id"].to_pylist())
    assert held <= {each.id for each in frontier.listing(("kept",), (), ())}
    for ids in found.lacking.values():
        assert frontier.lose(ids, "damaged") == len(ids)
    assert writer.compare() == Comparison(0, {}, [])
    Path(photos.path(0)).write_bytes(b"PAR1 torn")
    (said,) = writer.compare().unreadable
    assert "000000.parquet: not readable" in said
