"""Run three measures over a small store, and read their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from lhq import filter
from lhq.filter import FilterReport, Rule
from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.measures.text import Text, TextSettings
from lhq.records import VERDICT_SCHEMA
from tests.lhq.making import Here

ROOT = Path(__file__).parents[3]


def rules(min_side_px: int = 300, **text: object) -> list[Rule]:
    size, words, near = SizeSettings(min_side_px=min_side_px), TextSettings.model_validate(text), DuplicatesSettings()
    return [Rule(Size(size), size), Rule(Text(words), words), Rule(Duplicates(near), near)]


def run(store: Path, given: Sequence[Rule] | None = None, **options: bool) -> FilterReport:
    return filter.run(str(store), given or rules(), Here(), **options)


def verdicts(store: Path) -> dict[str, dict[str, object]]:
    table = pq.read_table(store / "verdicts.parquet")
    assert table.schema.equals(VERDICT_SCHEMA)
    return {row["id"]: row for row in table.to_pylist()}


def stamps(store: Path, measure: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted((store / "facts" / measure).iterdir())}
