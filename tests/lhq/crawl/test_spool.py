"""The spool: what is in it survives, what is torn is cut, and a sealed shard is exactly what was fetched."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lhq.crawl import shard_file
from lhq.crawl.frontier import Frontier, Kept
from lhq.crawl.spool import Spool, now, open_numbers, papers_of
from lhq.crawl.writer import PhotoWriter
from lhq.errors import StoreError
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


def test_a_photo_fetched_again_into_the_same_spool_is_there_once(tmp_path: Path) -> None:
    spool = fill(tmp_path, [b"a", b"b"])
    spool.append(record("p0", b"new"), b"new")
    shards = Shards(str(tmp_path), "photos")
    assert spool.seal(shards, lambda ids: {}) == 2
    assert sorted(shards.read(3)["image"].to_pylist()) == [b"b", b"new"]


@pytest.mark.parametrize("late", ["nothing", "left out", "again", "another query", "no query"])
def test_a_shard_begun_early_is_the_one_written_at_the_end(
    late: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups are written while photos still come; whatever becomes of those photos meanwhile, the shard is byte
    for byte what it would be if it had been begun at the end."""
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 5000)
    datas = [bytes([i]) * (i * 97 % 3000 + 1) for i in range(40)]
    records = [record(f"p{i}", data) for i, data in enumerate(datas)]
    early, plain = Spool(tmp_path / "early", 3), Spool(tmp_path / "plain", 3)
    queries = {papers["id"]: ["lake", "hill"] for papers in records}
    unwanted: set[str] = set()
    asked: list[str] = []
    begun, whole = threading.Event(), threading.Event()

    def queries_of(ids: Sequence[str]) -> dict[str, list[str]]:
        asked.extend(ids)
        begun.set()
        return {id: [*queries[id]] for id in ids}

    shards = Shards(str(tmp_path / "early"), "photos")
    sealing = threading.Thread(target=early.seal, args=(shards, queries_of, unwanted, whole))
    sealing.start()
    for spool in (early, plain):
        for papers, data in zip(records[:30], datas, strict=False):
            spool.append(papers, data)
    assert begun.wait(30), "a full row group was not written while photos came"
    assert 0 < len(asked) < 30
    assert not shards.numbers(), "the shard has its name before it is whole"
    if late == "left out":
        unwanted.add("s:p1")
    if late == "another query":
        queries["s:p1"].append("sea")
    if late == "no query":
        queries["s:p1"].clear()
    for spool in (early, plain):
        for papers, data in zip(records[30:], datas[30:], strict=True):
            spool.append(papers, data)
        if late == "again":
            spool.append(records[0], datas[0])
    whole.set()
    sealing.join()
    other = Shards(str(tmp_path / "plain"), "photos")
    plain.seal(other, lambda ids: {id: queries[id] for id in ids}, unwanted)
    assert Path(shards.path(3)).read_bytes() == Path(other.path(3)).read_bytes()
    assert other.read(3).num_rows == (39 if late == "left out" else 40)
    assert [path.name for path in Path(shards.path(3)).parent.iterdir()] == ["000003.parquet"]
    assert open_numbers(tmp_path / "early") == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 3000), junk=st.binary(max_size=40))
def test_any_torn_end_is_cut_and_no_whole_record_lost(tmp_path: Path, cut: int, junk: bytes) -> None:
    datas = [bytes([i]) * 200 for i in range(5)]
    path = tmp_path / "spool" / "000003.spool"
    path.unlink(missing_ok=True)
    spool = fill(tmp_path, datas)
    ends = [entry.at for entry in spool.entries[1:]] + [spool.size_bytes]
    spool.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))] + junk)
    again = Spool(tmp_path, 3)
    num = sum(end <= min(cut, len(whole)) for end in ends)
    assert [entry.id for entry in again.entries] == [f"s:p{i}" for i in range(num)]
    again.append(record("more", b"more"), b"more")
    again.close()
    assert len(Spool(tmp_path, 3).entries) == num + 1


def test_a_flipped_bit_ends_the_replay_before_it(tmp_path: Path) -> None:
    spool = fill(tmp_path, [bytes(500)] * 3)
    spool.close()
    data = bytearray(spool.path.read_bytes())
    data[-100] ^= 1
    spool.path.write_bytes(data)
    assert len(Spool(tmp_path, 3).entries) == 2


@pytest.mark.parametrize("papers", [b"", b"null", b"[]", b"{}", b'{"id": "x:1"}'])
def test_a_head_over_papers_that_say_nothing_ends_the_replay(tmp_path: Path, papers: bytes) -> None:
    fill(tmp_path, [b"one", b"two"]).close()
    path = tmp_path / "spool/000003.spool"
    whole = path.read_bytes()
    head = struct.pack("<4sIQI", b"LHQ1", len(papers), 84, zlib.crc32(papers))
    path.write_bytes(whole + head + papers + bytes(84))
    opened = Spool(tmp_path, 3)
    assert len(opened.entries) == 2
    opened.close()
    assert path.read_bytes() == whole


def test_sealed_but_not_removed(tmp_path: Path) -> None:
    """A kill between the rename of the shard and the removal of its spool."""
    shards = Shards(str(tmp_path), "photos")
    spool = fill(tmp_path, [b"a", b"b"])
    kept = spool.path.read_bytes()
    spool.seal(shards, lambda ids: {})
    before = Path(shards.path(3)).read_bytes()
    spool.path.write_bytes(kept)
    assert Spool(tmp_path, 3).seal(shards, lambda ids: {}) == 2
    assert Path(shards.path(3)).read_bytes() == before
    assert open_numbers(tmp_path) == []


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
    writer = PhotoWriter(
        str(tmp_path), Shards(str(tmp_path), "photos"), frontier, lambda numbers: None, lambda error: None
    )
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
    one is kept without being fetched again, the other waits again with its reason, whatever else was kept stays."""
    frontier = Frontier(tmp_path / "frontier.sqlite")
    frontier.add_queries("s", [Query("lake")], 100)
    asked = frontier.next_query("s", frozenset({"lake"}))
    assert asked is not None
    offers = [Candidate("s", f"p{n}", f"http://h/p{n}", "http://p", "Ann", "", "cc-by-2.0", "lake") for n in range(4)]
    frontier.add_page(asked, Page(tuple(offers), None), [(one, "h:80") for one in offers])
    number = {each.candidate.source_id: each.number for each in frontier.waiting("h:80", time.time(), 9, ("s",))}
    fill(tmp_path, [b"here", b"unsaid"]).close()  # p0 and p1
    frontier.keep([Kept(number["p0"], 3, 4), Kept(number["p2"], 3, 4), Kept(number["p3"], 9, 4)])
    writer = PhotoWriter(
        str(tmp_path), Shards(str(tmp_path), "photos"), frontier, lambda numbers: None, lambda error: None
    )
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
    writer = PhotoWriter(
        str(tmp_path), Shards(str(tmp_path), "photos"), frontier, lambda numbers: None, lambda error: None
    )
    writer.recover()
    (found,) = frontier.candidates_of(["s:p0"])
    assert (found.query, found.author, found.tags) == ("lake", "Änn ?", ("x",))
