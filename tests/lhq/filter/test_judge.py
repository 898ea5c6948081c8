"""Judging by column: many rows in seconds, the same as row by row, and no photo kept without all verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhq import filter
from lhq.errors import InputError
from lhq.filter import Rule
from lhq.measures import Measure, MeasureSettings, Verdicts
from lhq.measures.size import Size, SizeSettings
from lhq.measures.text import Text, TextSettings
from lhq.records import PHOTO_SCHEMA, Photo, Verdict
from lhq.store.shards import Shards


class Drops(Measure[MeasureSettings]):
    """A measure whose facts are its verdicts."""

    settings_class = MeasureSettings
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("fails", pa.bool_())])
    judged: Sequence[str] = schema.names

    def __init__(self, name: str, as_list: bool = False) -> None:
        self.name, self.as_list = name, as_list

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        raise AssertionError("judging measures nothing")

    def judge(self, facts: pa.Table, settings: MeasureSettings) -> Sequence[Verdict]:
        kept = ~facts["fails"].to_numpy(zero_copy_only=False)
        score = np.arange(len(kept)) / 7
        if self.as_list:
            rows = zip(facts["id"].to_pylist(), kept.tolist(), score.tolist(), strict=True)
            return [Verdict(id, self.name, keep, value, f"{self.name} {id}") for id, keep, value in rows]
        return Verdicts(self.name, facts["id"], kept, score, lambda row: f"{self.name} {facts['id'][row].as_py()}")


def store_of(store: Path, shards: Sequence[int], rules: Sequence[Rule], fails: np.ndarray) -> None:
    """Photos without bytes in shards of these sizes, and facts [photo, measure]."""
    blank = {f.name: "" if pa.types.is_string(f.type) else [] if pa.types.is_list(f.type) else 0 for f in PHOTO_SCHEMA}
    at = 0
    for number, rows in enumerate(shards):
        ids = [f"x:{at + row}" for row in range(rows)]
        table = [blank | {"id": id, "image": b""} for id in ids]
        Shards(str(store), "photos").write(number, pa.Table.from_pylist(table, PHOTO_SCHEMA))
        for column, rule in enumerate(rules):
            facts = pa.table([ids, fails[at : at + rows, column]], Drops.schema)
            facts = facts.replace_schema_metadata({"lhq.made": rule.fingerprint})
            Shards(str(store), f"facts/{rule.measure.name}").write(number, facts)
        at += rows


@settings(max_examples=8, deadline=None)  # every file is synced to disk
@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 3), st.booleans(), st.data())
def test_the_join_equals_a_row_by_row_reference(
    tmp_path_factory: pytest.TempPathFactory, shards: list[int], num: int, as_list: bool, data: st.DataObject
) -> None:
    store = tmp_path_factory.mktemp("store")
    rules = [Rule(Drops(f"m{n}", as_list), MeasureSettings()) for n in range(num)]
    rows = data.draw(
        st.lists(st.lists(st.booleans(), min_size=num, max_size=num), min_size=sum(shards), max_size=sum(shards))
    )
    fails = np.array(rows, bool).reshape(sum(shards), num)
    store_of(store, shards, rules, fails)
    table = filter.judge_photos(str(store), rules).table.to_pylist()
    number = np.repeat(np.arange(len(shards)), shards).tolist()
    assert len(table) == len(rows)
    for at, row in enumerate(table):
        failed = [f"m{n}" for n in range(num) if rows[at][n]]
        assert (row["id"], row["shard"], row["kept"], row["failed"]) == (f"x:{at}", number[at], not failed, failed)
        assert row["reason"] == (failed[0] if failed else "")
        assert row["detail"] == (f"{failed[0]} x:{at}" if failed else "")
        assert row["score"] == at / 7 if failed else np.isnan(row["score"])


def test_verdicts_read_as_a_sequence() -> None:
    ids = pa.array(["a", "b", "c"])
    verdicts = Verdicts("m", ids, np.array([True, False, True]), np.array([1.0, 2.0, np.nan]), lambda row: f"row {row}")
    assert len(verdicts) == 3
    assert verdicts[1] == Verdict("b", "m", False, 2.0, "row 1")
    assert verdicts[-2] == verdicts[1]
    assert verdicts[1:] == [verdicts[1], verdicts[2]] or np.isnan(verdicts[2].score)
    assert [v.id for v in verdicts] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        verdicts[3]
    assert Verdicts.of("m", verdicts) is verdicts


def test_a_quarter_of_a_million_photos_are_judged_at_once(tmp_path: Path) -> None:
    """How long it takes is measured by benchmarks/judge.py."""
    num, shard = 250_000, 125_000
    size, text = SizeSettings(), TextSettings()
    rules = [Rule(Size(size), size), Rule(Text(text), text)]
    rng = np.random.default_rng(0)
    words = np.array([" lake  at  dawn ", " my  dog ", " mountains ", " wedding "], object)
    for number in range(num // shard):
        ids = [f"x:{number * shard + row}" for row in range(shard)]
        side = rng.integers(800, 4000, (2, shard)).astype(np.int32)
        few = rng.random(shard, np.float32)
        columns = {"id": ids, "width_px": side[0], "height_px": side[1]}
        columns |= dict.fromkeys(("border", "colour", "sharpness", "noise"), few)
        titles = {
            "id": ids,
            "title": words[rng.integers(0, 4, shard)],
            "tags": [""] * shard,
            "description": [""] * shard,
        }
        photos = {f.name: pa.nulls(shard, f.type) for f in PHOTO_SCHEMA} | {"id": ids}
        loose = pa.schema([pa.field(f.name, f.type) for f in PHOTO_SCHEMA])
        Shards(str(tmp_path), "photos").write(number, pa.table(photos, loose))
        for rule, column in zip(rules, (columns, titles), strict=True):
            schema = rule.measure.schema
            table = pa.table({f.name: column.get(f.name, pa.nulls(shard, f.type)) for f in schema}, schema)
            table = table.replace_schema_metadata({"lhq.made": rule.fingerprint})
            Shards(str(tmp_path), f"facts/{rule.measure.name}").write(number, table)
    table = filter.judge_photos(str(tmp_path), rules).table
    assert len(table) == num
    assert table["kept"].to_numpy().sum() < num


def test_a_rule_without_facts_is_named(tmp_path: Path) -> None:
    one, two = (Rule(Drops(name), MeasureSettings()) for name in ("one", "two"))
    store_of(tmp_path, [3], [one], np.zeros((3, 1), bool))
    with pytest.raises(InputError, match=r"facts/two: no facts .* for 1 of 1 shards; run `lhq filter"):
        filter.judge_photos(str(tmp_path), [one, two])
