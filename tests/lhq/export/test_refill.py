"""A refilled set: removed photos are replaced by the next best of the same kind, and other rows stay."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.errors import RightsRefused
from lhq.export import ExportReport, ExportSettings, export, layout
from lhq.export.verify import verify
from lhq.store.shards import Shards
from lhq.takedown.remove import remove
from tests.lhq.making import RIGHTS, Here, add_shard, files, judge, photo, scene
from tests.lhq.typed import Lhq

LAKE, SEA = ["lake"], ["sea"]


def run(store: Path, to: Path, **settings: Any) -> ExportReport:
    chosen = ExportSettings(**{"to": str(to), "variants": ("32",), "validation": 0.0, **settings})
    return export(str(store), chosen, rights_of=RIGHTS, engine=Here())


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for path in (out / "data").glob("*.parquet") for row in pq.read_table(path).to_pylist()}


def crawled(store: Path, shard: int, first: int, *queries: list[str], **more: Any) -> None:
    add_shard(store, shard, [photo(scene(first + n), f"{first + n}", queries=q, **more) for n, q in enumerate(queries)])
    judge(store)


def likely(store: Path, scores: dict[int, dict[str, float]]) -> None:
    """Facts of `outliers`: shard → id → log-likelihood."""
    for number, of in scores.items():
        made = {"id": list(of), "log_likelihood": list(of.values())}
        Shards(str(store), "facts/outliers").write(number, pa.table(made))


@pytest.fixture
def set_of_four(tmp_path: Path) -> tuple[Path, Path]:
    """Three lakes and a sea are exported; two lakes and two seas came later."""
    store, out = tmp_path / "store", tmp_path / "out"
    crawled(store, 0, 0, LAKE, LAKE, LAKE, SEA)
    likely(store, {0: {f"flickr:{n}": 0.0 for n in range(4)}})
    run(store, out)
    crawled(store, 1, 4, LAKE, LAKE, SEA, SEA)
    later = {"flickr:4": -9.0, "flickr:5": -1.0, "flickr:6": 5.0, "flickr:7": 7.0}
    likely(store, {0: {f"flickr:{n}": 0.0 for n in range(4)}, 1: later})
    return store, out


def test_the_next_best_of_equal_kind_takes_the_place(set_of_four: tuple[Path, Path]) -> None:
    store, out = set_of_four
    before = rows(out)
    remove(str(store), ["flickr:1"])
    report = run(store, out, refill=True)
    after = rows(out)
    assert set(after) == {"flickr:0", "flickr:2", "flickr:3", "flickr:5"}, "the likelier lake, though seas are likelier"
    assert {id: after[id] for id in before.keys() & after.keys()} == {id: before[id] for id in before if id in after}
    assert report.written[0].pictures_rendered == 1
    assert report.notes == ["gaps filled 1 · open 0"]
    assert report.skipped == {"held in reserve by --refill": 3}
    assert not verify(str(out), engine=Here()).problems


def test_without_a_gap_nothing_changes(set_of_four: tuple[Path, Path]) -> None:
    store, out = set_of_four
    run(store, out, refill=True)
    before = files(out)
    report = run(store, out, refill=True)
    assert files(out) == before
    assert len(rows(out)) == 4
    assert report.written[0].shards_written == 0


def test_a_gap_without_a_photo_stays_open_until_there_is_one(set_of_four: tuple[Path, Path]) -> None:
    store, out = set_of_four
    remove(str(store), ["flickr:0", "flickr:1", "flickr:2"])
    report = run(store, out, refill=True)
    assert set(rows(out)) == {"flickr:3", "flickr:4", "flickr:5"}
    assert report.notes == ["gaps filled 2 · open 1", "  open: 1 of flickr, cc-by-2.0, train, lake"]
    assert b"flickr:0" not in (out / "manifest.parquet").read_bytes()
    run(store, out, refill=True)
    crawled(store, 2, 8, SEA, ["rock", "lake"], LAKE)
    report = run(store, out, refill=True)
    assert len(rows(out)) == 4
    assert rows(out).keys() - {"flickr:3", "flickr:4", "flickr:5"} <= {"flickr:9", "flickr:10"}
    assert report.notes == ["gaps filled 1 · open 0"]


@pytest.mark.parametrize(
    "other",
    [{"licence": "cc0-1.0"}, {"source": "folder", "licence": "own"}, {"queries": ["desert"]}, {"queries": []}],
)
def test_what_is_of_another_kind_fills_no_gap(tmp_path: Path, other: dict[str, Any]) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    crawled(store, 0, 0, LAKE, LAKE)
    run(store, out)
    add_shard(store, 1, [photo(scene(5), "5", **{"queries": LAKE, **other})])
    judge(store)
    remove(str(store), ["flickr:1"])
    assert run(store, out, refill=True).notes[0] == "gaps filled 0 · open 1"
    assert set(rows(out)) == {"flickr:0"}


def test_a_gap_of_one_split_is_filled_from_it(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    crawled(store, 0, 0, *[LAKE] * 12)
    run(store, out, validation=0.5)
    crawled(store, 1, 12, *[LAKE] * 24)
    gone = [f"flickr:{n}" for n in range(5)]
    remove(str(store), gone)
    assert run(store, out, refill=True, validation=0.5).notes == ["gaps filled 5 · open 0"]
    new = rows(out).keys() - {f"flickr:{n}" for n in range(12)}
    assert sorted(layout.split(id, 0.5) for id in new) == sorted(layout.split(id, 0.5) for id in gone)


def test_a_replacement_that_cannot_be_rendered_gives_way_to_the_next(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    crawled(store, 0, 0, LAKE, LAKE)
    run(store, out)
    broken = scene(4)[:3000]
    whole = photo(scene(4), "4", queries=LAKE)
    best = {**whole, "image": broken, "sha256": hashlib.sha256(broken).hexdigest(), "width_px": 9000}
    add_shard(store, 1, [best, photo(scene(5), "5", queries=LAKE)])
    judge(store)
    remove(str(store), ["flickr:1"])
    assert run(store, out, refill=True).notes[0] == "gaps filled 0 · open 1"
    for _ in range(2):  # and it is not tried again
        run(store, out, refill=True)
        assert set(rows(out)) == {"flickr:0", "flickr:5"}


def test_a_first_export_takes_all_and_says_so(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    crawled(store, 0, 0, LAKE, SEA)
    report = run(store, out, refill=True)
    assert len(rows(out)) == 2
    assert report.notes == [f"nothing to refill: {out} holds no dataset yet, so all rows are taken"]


def test_nothing_of_equal_kind_at_all_is_refused_and_the_old_set_stays(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    crawled(store, 0, 0, LAKE)
    run(store, out)
    before = files(out)
    crawled(store, 1, 1, SEA)
    judge(store, {"flickr:0": "size"})
    with pytest.raises(RightsRefused, match="without --refill"):
        run(store, out, refill=True)
    assert files(out) == before


def test_as_it_is_typed(set_of_four: tuple[Path, Path], tmp_path: Path, lhq: Lhq) -> None:
    store, out = set_of_four
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(
        f'store = "{store}"\nqueries = ["lake"]\nwant = 5\n'
        f'[export]\nto = "{out}"\nvariants = ["32"]\nvalidation = 0\npublish = "manifest"\n'
    )
    remove(str(store), ["flickr:3"])
    done = lhq("export", str(pipeline), "--refill")
    assert done.returncode == 0, done.stderr
    assert "gaps filled 1 · open 0" in done.stderr
    assert set(pq.read_table(out / "manifest.parquet")["id"].to_pylist()) == {f"flickr:{n}" for n in (0, 1, 2, 7)}
