"""The spool: its photos survive, an incomplete record is cut, and a sealed shard is exactly what was fetched."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lhq.crawl import shard_file
from lhq.crawl.frontier import Frontier, Kept
from lhq.crawl.papers import now, papers_of
from lhq.crawl.parquet_pages import check_with_arrow
from lhq.crawl.spool import Spool, open_numbers
from lhq.crawl.writer import PhotoWriter
from lhq.errors import ShardDamaged, StoreError
from lhq.images import Header
from lhq.records import PHOTO_SCHEMA, Candidate, Query
from lhq.sources import Page
from lhq.store.shards import Shards


def record(name: str, data: bytes) -> dict[str, Any]:
    header = Header("jpeg", 64, 48, 1, "RGB", len(data), hashlib.sha256(data).hexdigest())
    one = Candidate("s", name, "http://u", "http://p", "Änn \ud800", "", "cc-by-2.0", "lake", tags=("x",))
    return papers_of(one, header, one.url, now())


def fill(folder: Path, datas: list[bytes], number: int = 3) -> Spool:
    spool = Spool(folder, number)
    for i, data in enumerate(datas):
        spool.append(record(f"p{i}", data), data)
    return spool


def offered(folder: Path, num: int) -> tuple[Frontier, dict[str, int]]:
    """A frontier that was offered p0, p1, …, and their numbers in it."""
    frontier = Frontier(folder / "frontier.sqlite")
    frontier.add_queries("s", [Query("lake")], 100)
    asked = frontier.next_query("s", frozenset({"lake"}))
    assert asked is not None
    offers = [Candidate("s", f"p{n}", f"http://h/p{n}", "http://p", "Ann", "", "cc-by-2.0", "lake") for n in range(num)]
    frontier.add_page(asked, Page(tuple(offers), None), [(one, "h:80") for one in offers])
    return frontier, {
        each.candidate.source_id: each.number for each in frontier.waiting("h:80", time.time(), 9, ("s",))
    }


def writer_of(folder: Path, frontier: Frontier, shards: Shards | None = None) -> PhotoWriter:
    shards = shards or Shards(str(folder), "photos")
    return PhotoWriter(str(folder), shards, frontier, lambda numbers: None, lambda error: None)


def test_a_sealed_shard_is_what_was_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 5000)
    datas = [os.urandom(i * 97 % 3000 + 1) for i in range(40)]
    spool = fill(tmp_path, datas)
    shards = Shards(str(tmp_path), "photos")
    assert spool.seal(shards, lambda ids: {"s:p5": ["lake", "hill"]}) == 40
    file = pq.ParquetFile(shards.path(3))
    table = file.read()
    assert table.schema == PHOTO_SCHEMA
    assert table["image"].to_pylist() == datas
    assert table["queries"].to_pylist()[4:6] == [["lake"], ["lake", "hill"]]
    assert table["author"][0].as_py() == "Änn ?"
    assert table["licence_url"][0].as_py() == "https://creativecommons.org/licenses/by/2.0/"
    sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]
    assert max(sizes) < 5000 + 3000 + 1000, "a group is full at 5000 bytes of photos; papers come on top"
    assert open_numbers(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system has no call for it")
def test_bytes_on_disk_do_not_stay_in_memory(tmp_path: Path) -> None:
    if subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True).stdout.strip() == "tmpfs":
        pytest.skip("the temporary folder is memory")
    spool = fill(tmp_path, [os.urandom(2**20) for _ in range(24)])
    assert in_memory(spool.photos_path) > 0.9
    spool.sync()
    assert in_memory(spool.photos_path) < 0.1
    photos = spool.photos_path.stat().st_size
    for i in range(24):
        spool.append(record(f"q{i}", bytes(2**20)), bytes(2**20))
        spool.write_behind()
    spool.sync()
    assert in_memory(spool.photos_path) < 0.1
    assert spool.photos_path.stat().st_size > photos + 24 * 2**20
    assert spool.seal(Shards(str(tmp_path), "photos"), lambda ids: {}) == 48
    assert in_memory(tmp_path / "photos/000003.parquet") < 0.1


def in_memory(path: Path) -> float:
    """The share of a file that the system holds in memory."""
    size = path.stat().st_size
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as whole:
        place = ctypes.addressof(ctypes.c_char.from_buffer(whole))
        assert ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(place), ctypes.c_size_t(size), pages) == 0
        gc.collect()  # the view of the map's place
    return sum(page & 1 for page in pages) / len(pages)


def test_a_photo_fetched_again_into_the_same_spool_is_there_once(tmp_path: Path) -> None:
    spool = fill(tmp_path, [b"a", b"b"])
    spool.append(record("p0", b"new"), b"new")
    shards = Shards(str(tmp_path), "photos")
    assert spool.seal(shards, lambda ids: {}) == 2
    assert sorted(shards.read(3)["image"].to_pylist()) == [b"b", b"new"]


@pytest.mark.parametrize("late", ["nothing", "left out", "again", "on another disk"])
def test_a_shard_holds_nothing_but_its_photos(late: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished in its place, or copied page by page: its rows are the same, and no byte stays of a photo left out."""
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 5000)
    datas = [bytes([i]) * 20 + os.urandom(i * 97 % 3000 + 1) for i in range(40)]
    spool = fill(tmp_path, datas)
    store = str(tmp_path)
    if late == "again":
        datas.append(b"fetched again")
        spool.append(record("p1", datas[-1]), datas[-1])
    if late == "on another disk":
        store = "/dev/shm" if os.path.isdir("/dev/shm") else str(tmp_path)
        store = tempfile.mkdtemp(dir=store)
    shards = Shards(store, "photos")
    num = spool.seal(shards, lambda ids: {}, {"s:p1"} if late == "left out" else frozenset())
    gone = {1} if late in {"left out", "again"} else set()
    wanted = [data for i, data in enumerate(datas) if i not in gone]
    whole = Path(shards.path(3)).read_bytes()
    assert num == len(wanted)
    assert shards.read(3)["image"].to_pylist() == list(shards.images(3)) == wanted
    assert [data in whole for data in datas] == [i not in gone for i in range(len(datas))]
    assert [path.name for path in Path(shards.path(3)).parent.iterdir()] == ["000003.parquet"]
    assert list((tmp_path / "spool").iterdir()) == []
    if store != str(tmp_path):
        shutil.rmtree(store)


def test_other_readers_read_it_and_a_flipped_bit_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 5000)
    datas = [os.urandom(i * 97 % 3000 + 1) for i in range(40)]
    shards = Shards(str(tmp_path), "photos")
    fill(tmp_path, datas).seal(shards, lambda ids: {"s:p5": ["lake", "hill"]})
    path = shards.path(3)
    found = duckdb.sql(f"select id, image, queries, size_bytes from '{path}' order by file_row_number").fetchall()
    assert [row[:2] for row in found] == [(f"s:p{i}", data) for i, data in enumerate(datas)]
    assert found[5][2] == ["lake", "hill"]
    (some,) = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=str(tmp_path / "c"))[7:8]["id"]
    assert some == "s:p7"
    about = pq.read_metadata(path)
    for group in range(about.num_row_groups):
        column = about.row_group(group).column(about.num_columns - 1)
        assert (column.path_in_schema, column.compression) == ("image", "UNCOMPRESSED")
        parts = [about.row_group(group).column(n).total_uncompressed_size for n in range(about.num_columns)]
        assert about.row_group(group).total_byte_size == sum(parts)
    whole = bytearray(Path(path).read_bytes())
    whole[whole.index(datas[20]) + 5] ^= 1
    Path(path).write_bytes(whole)
    with pytest.raises(ShardDamaged, match="CRC"):
        shards.read(3)


@pytest.mark.parametrize("kind", ["journal", "photos"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 4000), junk=st.binary(max_size=40))
def test_any_torn_end_is_cut_and_no_whole_record_lost(tmp_path: Path, kind: str, cut: int, junk: bytes) -> None:
    datas = [bytes([i]) * 600 for i in range(5)]
    (tmp_path / "spool" / "000003.spool").unlink(missing_ok=True)
    spool = fill(tmp_path, datas)
    path = spool.path if kind == "journal" else spool.photos_path
    ends = [entry.end if kind == "journal" else entry.page_end for entry in spool.entries]
    spool.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))] + junk)
    again = Spool(tmp_path, 3)
    num = sum(end <= min(cut, len(whole)) for end in ends)
    assert [entry.id for entry in again.entries] == [f"s:p{i}" for i in range(num)]
    again.append(record("more", b"more"), b"more")
    again.close()
    last = Spool(tmp_path, 3)
    assert len(last.entries) == num + 1
    shards = Shards(str(tmp_path / "store"), "photos")
    Path(shards.path(3)).unlink(missing_ok=True)
    last.seal(shards, lambda ids: {})
    assert shards.read(3)["image"].to_pylist() == [*datas[:num], b"more"]


@pytest.mark.parametrize("kind", ["journal", "photos"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), size=st.sampled_from([0, 8, 900, 4096]))
def test_damage_in_the_middle_costs_only_what_it_hit(tmp_path: Path, kind: str, share: float, size: int) -> None:
    """A flipped bit (size 0) or zeros, as a power cut leaves them, in any place of either file."""
    datas = [os.urandom(i * 97 % 600 + 60) for i in range(9)]
    for old in (tmp_path / "spool").glob("*"):
        old.unlink()
    spool = fill(tmp_path, datas)
    spool.close()
    path = spool.path if kind == "journal" else spool.photos_path
    begin, whole = 0 if kind == "journal" else 4, bytearray(path.read_bytes())  # a Parquet file begins with 4 letters
    at = begin + int(share * (len(whole) - begin))
    end = min(at + max(size, 1), len(whole))
    whole[at:end] = bytes(end - at) if size else bytes([whole[at] ^ 1])
    path.write_bytes(whole)
    places = [(e.offset, e.end) if kind == "journal" else (e.page_offset, e.page_end) for e in spool.entries]
    kept = [i for i, (a, b) in enumerate(places) if b <= at or a >= end]
    again = Spool(tmp_path, 3)
    assert [entry.id for entry in again.entries] == [f"s:p{i}" for i in kept]
    again.append(record("more", b"more"), b"more")
    again.close()
    shards = Shards(str(tmp_path / "store"), "photos")
    Path(shards.path(3)).unlink(missing_ok=True)
    Spool(tmp_path, 3).seal(shards, lambda ids: {})
    assert shards.read(3)["image"].to_pylist() == [*(datas[i] for i in kept), b"more"]


@pytest.mark.parametrize("papers", [b"", b"null", b"[]", b"{}", b'{"id": "x:1"}'])
def test_a_head_over_papers_that_say_nothing_ends_the_replay(tmp_path: Path, papers: bytes) -> None:
    spool = fill(tmp_path, [b"one", b"two"])
    spool.close()
    whole = spool.path.read_bytes()
    head = struct.pack("<4sIQQQII", b"LHQ2", len(papers), spool.size_bytes, 90, 84, 0, zlib.crc32(papers))
    spool.path.write_bytes(whole + head + papers)
    opened = Spool(tmp_path, 3)
    assert len(opened.entries) == 2
    opened.close()
    assert spool.path.read_bytes() == whole


@pytest.mark.parametrize("cut", [0, 1, 100, 200, 300])
def test_a_spool_of_an_older_version_goes_on(tmp_path: Path, cut: int) -> None:
    """In format 1 papers and photos alternate; an incomplete photo at the end is cut off."""
    datas, old = [bytes([i]) * 250 for i in range(4)], b""
    for i, data in enumerate(datas):
        block = json.dumps(record(f"p{i}", data), ensure_ascii=False).encode("utf-8", "replace")
        old += struct.pack("<4sIQI", b"LHQ1", len(block), len(data), zlib.crc32(block)) + block + data
    path = tmp_path / "spool" / "000003.spool"
    path.parent.mkdir()
    path.write_bytes(old[: len(old) - cut])
    (tmp_path / "spool" / "000003.photos").write_bytes(b"what a kill left while it was written anew")
    spool = Spool(tmp_path, 3)
    kept = datas[: 4 if cut == 0 else 3]
    assert [spool.papers(entry)["source_id"] for entry in spool.entries] == [f"p{i}" for i in range(len(kept))]
    spool.append(record("more", b"more"), b"more")
    spool.close()
    shards = Shards(str(tmp_path), "photos")
    assert Spool(tmp_path, 3).seal(shards, lambda ids: {}) == len(kept) + 1
    assert shards.read(3)["image"].to_pylist() == [*kept, b"more"]


@pytest.mark.parametrize("killed", ["before the footer", "before the rename", "before the journal is forgotten"])
def test_killed_while_a_shard_is_sealed(tmp_path: Path, killed: str) -> None:
    """Whatever was done by then, the next start makes the same shard of it, and no photo is lost or fetched again."""
    frontier, number = offered(tmp_path, 2)
    shards = Shards(str(tmp_path), "photos")
    spool = fill(tmp_path, [b"one", b"two"])
    frontier.keep([Kept(number[name], 3, 3) for name in ("p0", "p1")])
    journal, photos = spool.path.read_bytes(), spool.photos_path.read_bytes()
    spool.seal(shards, lambda ids: {})
    whole = Path(shards.path(3)).read_bytes()
    spool.path.write_bytes(journal)
    if killed != "before the journal is forgotten":
        os.unlink(shards.path(3))
        spool.photos_path.write_bytes(photos if killed == "before the footer" else whole)
    writer = writer_of(tmp_path, frontier)
    assert writer.recover() == 0
    writer.start()
    assert writer.finish(lambda: False)
    assert shards.read(3).drop_columns(["fetched_at"]).to_pylist()[1]["image"] == b"two"
    assert [(each.id, each.status) for each in frontier.listing((), (), ())] == [("s:p0", "kept"), ("s:p1", "kept")]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_file_that_arrow_would_read_otherwise_gets_no_name(tmp_path: Path) -> None:
    spool = fill(tmp_path, [b"one", b"two"])
    entries, shards = [*spool.entries], Shards(str(tmp_path), "photos")
    spool.seal(shards, lambda ids: {})
    path = Path(shards.path(3))
    check_with_arrow(path, [entries])
    one, two = entries
    wrong = {
        "other photos": [[two, one]],
        "1 row groups": [[one], [two]],
        "are at": [[one, replace(two, page_bytes=9)]],
    }
    for said, groups in wrong.items():
        with pytest.raises(ValueError, match=said):
            check_with_arrow(path, groups)
    whole = path.read_bytes()
    at = whole.rindex(b"s:p1", 0, len(whole) - int.from_bytes(whole[-8:-4], "little") - 8)
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with pytest.raises((ValueError, OSError)):
        check_with_arrow(path, [entries])
    path.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match="Parquet"):
        check_with_arrow(path, [entries])


def test_a_remote_store(tmp_path: Path) -> None:
    shards = Shards("memory://crawl-spool-test", "photos")
    assert fill(tmp_path, [b"a", b"b"]).seal(shards, lambda ids: {}) == 2
    assert shards.read(3)["image"].to_pylist() == [b"a", b"b"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(StoreError, match="can't be written"):
        Spool(tmp_path, 0)


def test_a_spool_whose_frontier_was_lost_is_adopted(tmp_path: Path) -> None:
    fill(tmp_path, [b"a", b"b"]).close()
    frontier = Frontier(tmp_path / "frontier.sqlite")
    writer = writer_of(tmp_path, frontier)
    assert writer.recover() == 0
    assert [(each.id, each.status, each.shard) for each in frontier.listing((), (), ())] == [
        ("s:p0", "kept", 3),
        ("s:p1", "kept", 3),
    ]
    writer.start()
    assert writer.finish(lambda: False)
    assert Shards(str(tmp_path), "photos").numbers() == [3]


def test_spool_and_frontier_are_brought_together_after_a_kill(tmp_path: Path) -> None:
    """Killed between the record in the spool and the word in the frontier, and cut from the power after the word: the
    one is kept without being fetched again, the other waits again with its reason, other kept photos stay."""
    frontier, number = offered(tmp_path, 4)
    fill(tmp_path, [b"here", b"unsaid"]).close()  # p0 and p1
    frontier.keep([Kept(number["p0"], 3, 4), Kept(number["p2"], 3, 4), Kept(number["p3"], 9, 4)])
    writer = writer_of(tmp_path, frontier)
    assert writer.recover() == 1
    assert [(each.id, each.status, each.reason, each.shard) for each in frontier.listing((), (), ())] == [
        ("s:p0", "kept", "", 3),
        ("s:p1", "kept", "", 3),
        ("s:p2", "waiting", "lost", None),
        ("s:p3", "kept", "", 9),
    ]
    sizes = {tally.status: tally.size_bytes for tally in frontier.tallies()}
    assert sizes["kept"] == len(b"here") + len(b"unsaid") + 4
    assert writer.missing() == [9]


def test_an_adopted_photo_keeps_its_query(tmp_path: Path) -> None:
    """Its frontier is lost: the query of its papers is what it was found under, also when it is fetched again."""
    fill(tmp_path, [b"a"]).close()
    frontier = Frontier(tmp_path / "frontier.sqlite")
    writer = writer_of(tmp_path, frontier)
    writer.recover()
    (found,) = frontier.candidates_of(["s:p0"])
    assert (found.query, found.author, found.tags) == ("lake", "Änn ?", ("x",))
