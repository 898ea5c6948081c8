"""Photo → facts → verdict: measure each shard once, judge all of it at will.

Facts carry in their file what made them, so a shard is measured when its facts are missing, damaged or made
otherwise, and a threshold moves nothing. The CPU measures that a shard lacks are taken together: its photos
are read and decoded once for all of them. A shard of photos that can't be read is moved to `quarantine/` and
reported, and the rest goes on. A photo without facts is never kept.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

import lhq.store.verdicts
from lhq.engines import Engine, ShardReport
from lhq.errors import InputError, RunError, ShardDamaged
from lhq.measures import JudgesAmong, Measure, MeasureSettings, Verdicts
from lhq.progress import OnProgress, silent
from lhq.records import VERDICT_SCHEMA, Photo
from lhq.store.shards import Shards, key

_PAPERS = ("id", "width_px", "height_px", "orientation", "format", "sha256", "licence", "title", "description", "tags")
_MADE = b"lhq.made"


@dataclass(frozen=True)
class Rule:
    """One `[filter.<name>]` table: the measure, and the settings that judge its facts."""

    measure: Measure[Any]
    settings: MeasureSettings

    @property
    def made(self) -> str:
        """What facts of this rule are made by; facts with another word in their file are stale."""
        kind = type(self.settings)
        facts_depend_on = self.settings.model_dump(mode="json", exclude=set(kind.judgement))
        schema = {column.name: str(column.type) for column in self.measure.schema}
        return json.dumps(
            {
                "measure": self.measure.name,
                "version": self.measure.version,
                "settings": facts_depend_on,
                "schema": schema,
            },
            sort_keys=True,
        )


@dataclass(frozen=True)
class Filtered:
    """What a run of the filter did. `dropped` counts photos by the first measure that dropped them, in file
    order; `failed` are the shards that could not be measured, `quarantined` those that could not be read."""

    num_photos: int
    num_kept: int
    dropped: Mapping[str, int]
    failed: Sequence[ShardReport] = ()
    quarantined: Sequence[str] = ()
    measured: int = 0
    seconds: float = 0.0

    @property
    def funnel(self) -> str:
        """`photos 9,812 · kept 6,104 · size 528 · objects 2,377 · duplicates 803`."""
        parts = [f"photos {self.num_photos:,}", f"kept {self.num_kept:,}"]
        return " · ".join(parts + [f"{name} {num:,}" for name, num in self.dropped.items()])


@dataclass(frozen=True)
class Judged:
    """All verdicts: `table` is VERDICT_SCHEMA, `verdicts` the same rows measure by measure, in file order."""

    table: pa.Table
    verdicts: Mapping[str, Verdicts] = field(default_factory=dict)


def run(
    store: str,
    rules: Sequence[Rule],
    engine: Engine,
    *,
    judge_only: bool = False,
    on_progress: OnProgress = silent,
) -> Filtered:
    """Measure what lacks facts, judge everything, and write `verdicts.parquet`.

    Args:
        rules: in the pipeline file's order, which is the order of judgement.
        on_progress: told how many shards of each pass are done; a pass is named by its measures.

    Raises:
        InputError: there are no photos, or with `judge_only` some facts are missing or made otherwise.
        StoreError: the store can't be written.
    """
    start = time.perf_counter()
    if not Shards(store, "photos").numbers():
        raise InputError(f"{store}: no photos to filter", hint="run `lhq crawl PIPELINE` first")
    reports: list[ShardReport] = []
    if not judge_only:
        reports += measure(store, rules, engine, on_progress)
    known = {report.key for report in reports if report.damaged}
    reports += [report for report in _unreadable(store) if report.key not in known]
    quarantined = [_quarantine(store, int(report.key)) for report in reports if report.damaged]
    failed = [report for report in reports if report.error]
    judged = judge(store, rules, unmeasured_allowed=bool(failed))
    lhq.store.verdicts.write(store, judged.table, judged_by=judged_by(rules))
    reasons = judged.table["reason"].to_numpy(zero_copy_only=False)
    return Filtered(
        num_photos=len(judged.table),
        num_kept=int(np.count_nonzero(reasons == "")),
        dropped={rule.measure.name: int(np.count_nonzero(reasons == rule.measure.name)) for rule in rules},
        failed=failed,
        quarantined=quarantined,
        measured=sum(not report.error for report in reports),
        seconds=time.perf_counter() - start,
    )


# --- measuring --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeasureShard:
    """The job that engines run: facts of one shard of photos for each of `rules` that lacks them."""

    store: str
    rules: tuple[Rule, ...]

    def __call__(self, shard: str) -> ShardReport:
        start, number = time.perf_counter(), int(shard)
        todo = [rule for rule in self.rules if not is_measured(self.store, rule, number)]
        try:
            rows, failed_rows = self._measure(number, [rule.measure for rule in todo], [rule.made for rule in todo])
        except ShardDamaged as error:
            seconds = time.perf_counter() - start
            return ShardReport(shard, error=str(error), damaged=_is_damage(error), seconds=seconds)
        except FileNotFoundError as error:
            return ShardReport(shard, error=f"gone while it was measured ({error})")
        except RunError as error:
            return ShardReport(shard, error=str(error), seconds=time.perf_counter() - start)
        return ShardReport(shard, rows, failed_rows, time.perf_counter() - start)

    def _measure(self, number: int, measures: list[Measure[Any]], made: list[str]) -> tuple[int, int]:
        facts: list[list[pa.RecordBatch]] = [[] for _ in measures]
        for photos in read_photos(Shards(self.store, "photos"), number, measures):
            for measure, batches in zip(measures, facts, strict=True):
                batch = measure.measure(photos)
                assert batch.num_rows == len(photos), f"{measure.name}: {batch.num_rows} rows of {len(photos)} photos"
                batches.append(batch)
        rows, failed_rows = 0, 0
        for measure, word, batches in zip(measures, made, facts, strict=True):
            table = pa.Table.from_batches(batches, measure.schema).replace_schema_metadata({_MADE: word})
            _facts(self.store, measure).write(number, table)
            rows = table.num_rows
            if "error" in table.column_names:
                failed_rows = max(failed_rows, rows - table["error"].null_count)
        return rows, failed_rows


def measure(
    store: str,
    rules: Sequence[Rule],
    engine: Engine,
    on_progress: OnProgress = silent,
) -> Iterator[ShardReport]:
    """Facts of every shard that lacks them, one report a shard and pass: CPU measures share one pass, each GPU
    measure has its own, after them."""
    photos = Shards(store, "photos")
    together = tuple(rule for rule in rules if rule.measure.lane == "cpu")
    passes = [together] * bool(together) + [(rule,) for rule in rules if rule.measure.lane == "gpu"]
    damaged: set[str] = set()
    for group in passes:
        todo = [n for n in photos.numbers() if not all(is_measured(store, rule, n) for rule in group)]
        todo = [n for n in todo if key(n) not in damaged]
        if not todo:
            continue
        for rule in group:
            rule.measure.prepare(photos)
        names = ", ".join(rule.measure.name for rule in group)
        on_progress(names, 0, len(todo))
        reports = engine.map(MeasureShard(store, group), [key(n) for n in todo], group[0].measure.lane)
        for done, report in enumerate(reports, 1):
            on_progress(names, done, len(todo))
            if report.damaged:
                damaged.add(report.key)
            yield report


def is_measured(store: str, rule: Rule, number: int) -> bool:
    """True if a shard's facts are there, readable, and made as `rule` would make them."""
    facts = _facts(store, rule.measure)
    try:
        return facts.metadata(number).get(_MADE.decode()) == rule.made
    except (ShardDamaged, FileNotFoundError):
        return False


def read_photos(shards: Shards, number: int, measures: Sequence[Measure[Any]]) -> Iterator[list[Photo]]:
    """The photos of one shard in batches that suit `measures`; bytes are left out where none of them needs any.

    Raises:
        ShardDamaged: the shard can't be read, or is not a shard of photos.
    """
    needs_bytes = any(getattr(measure, "needs_bytes", True) for measure in measures)
    images = shards.pictures(number) if needs_bytes else itertools.repeat(b"")
    for batch in shards.batches(number, list(_PAPERS), min(measure.rows for measure in measures)):
        yield [Photo(data=next(images), **{**row, "tags": tuple(row["tags"])}) for row in batch.to_pylist()]


def _facts(store: str, measure: Measure[Any]) -> Shards:
    return Shards(store, f"facts/{measure.name}")


def _unreadable(store: str) -> Iterator[ShardReport]:
    """Shards of photos that judging can't even read the ids of: facts made earlier hid the damage."""
    photos = Shards(store, "photos")
    for number in photos.numbers():
        try:
            photos.read(number, ["id"])
        except ShardDamaged as error:
            yield ShardReport(key(number), error=str(error), damaged=_is_damage(error))


def _is_damage(error: ShardDamaged) -> bool:
    """False where the file may be whole, but could not be reached."""
    return not isinstance(error.__cause__, (PermissionError, ConnectionError, TimeoutError))


def _quarantine(store: str, number: int) -> str:
    """Move a damaged shard of photos aside; its new place."""
    photos = Shards(store, "photos")
    aside = Shards(store, "quarantine/photos")
    photos.fs.makedirs(aside.root, exist_ok=True)
    photos.fs.mv(photos.path(number), aside.path(number))
    return aside.path(number)


# --- judging ----------------------------------------------------------------------------------------------------


def judge(store: str, rules: Sequence[Rule], *, unmeasured_allowed: bool = False) -> Judged:
    """Verdicts over all facts, by the thresholds of `rules`; no pixel is looked at, nothing is written.

    Args:
        unmeasured_allowed: photos without facts are then dropped with the detail "not measured".

    Raises:
        InputError: facts are missing, or were made by other settings than the rule's.
        ShardDamaged: facts don't match the photos.
    """
    photos = Shards(store, "photos")
    numbers = photos.numbers()
    ids = [photos.read(number, ["id"])["id"].combine_chunks() for number in numbers]
    shard = np.repeat(np.array(numbers, np.int32), [len(part) for part in ids])
    facts = {
        rule.measure.name: _load(store, rule, dict(zip(numbers, ids, strict=True)), unmeasured_allowed)
        for rule in rules
    }
    verdicts: dict[str, Verdicts] = {}
    kept = np.ones(len(shard), bool)
    for rule in sorted(rules, key=lambda rule: isinstance(rule.measure, JudgesAmong)):
        table, measured = facts.pop(rule.measure.name)
        if isinstance(rule.measure, JudgesAmong):
            answer = rule.measure.judge_among(table, rule.settings, kept)
        else:
            answer = rule.measure.judge(table, rule.settings)
        verdicts[rule.measure.name] = mine = _drop_unmeasured(Verdicts.of(rule.measure.name, answer), measured)
        assert len(mine) == len(shard), f"{rule.measure.name}: {len(mine)} verdicts on {len(shard)} photos"
        kept = kept & mine.kept
    in_order = {rule.measure.name: verdicts[rule.measure.name] for rule in rules}
    return Judged(_join(pa.chunked_array(ids, pa.string()), shard, in_order), in_order)


def _load(store: str, rule: Rule, ids: Mapping[int, pa.Array], unmeasured_allowed: bool) -> tuple[pa.Table, np.ndarray]:
    """The judged columns of all shards, and bool [N]: false where there are no facts."""
    room = _facts(store, rule.measure)
    wanted = {"id", "error", *rule.measure.judged}
    schema = pa.schema([column for column in rule.measure.schema if column.name in wanted])
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda number: _facts_of(room, rule, number, schema), ids))
    num_lacking = sum(table is None for table in found)
    if num_lacking and not unmeasured_allowed:
        raise InputError(
            f"{room.root}: no facts by the present settings for {num_lacking} of {len(ids)} shards",
            hint=f"run `lhq filter PIPELINE` without --judge-only to measure {rule.measure.name}",
        )
    tables, measured = [], []
    for (number, shard_ids), table in zip(ids.items(), found, strict=True):
        if table is None:
            blank = [pa.nulls(len(shard_ids), column.type) for column in schema]
            tables.append(
                pa.table(
                    [shard_ids if column.name == "id" else b for column, b in zip(schema, blank, strict=True)], schema
                )
            )
        elif table["id"].combine_chunks().equals(shard_ids):
            tables.append(table)
        else:
            raise ShardDamaged(
                f"{room.path(number)}: its rows are not those of the photos",
                hint="delete this file and run `lhq filter PIPELINE` again",
            )
        measured.append(np.full(len(shard_ids), table is not None))
    return pa.concat_tables([schema.empty_table(), *tables]), np.concatenate([np.ones(0, bool), *measured])


_READERS = 4  # thousands of small files: while one is opened, others are unpacked


def _facts_of(room: Shards, rule: Rule, number: int, schema: pa.Schema) -> pa.Table | None:
    """One shard's facts in the columns of `schema`; None where they lack or were made otherwise.

    Raises:
        ShardDamaged: they were made by `rule`, but can't be read.
    """
    try:
        table = room.read(number, schema.names)
    except FileNotFoundError:
        return None
    except ShardDamaged:
        if is_measured(room.store, rule, number):
            raise
        return None
    made = (table.schema.metadata or {}).get(_MADE, b"").decode()
    return table.select(schema.names).replace_schema_metadata(None) if made == rule.made else None


def _drop_unmeasured(given: Verdicts, measured: np.ndarray) -> Verdicts:
    if measured.all():
        return given
    return Verdicts(
        given.measure,
        given.ids,
        given.kept & measured,
        np.where(measured, given.score, np.nan),
        lambda row: given.detail(row) if measured[row] else "not measured",
    )


def _join(ids: pa.ChunkedArray, shard: np.ndarray, verdicts: Mapping[str, Verdicts]) -> pa.Table:
    """One row a photo: the first failing measure is the reason, all failing ones are listed."""
    names = np.array(list(verdicts), object)
    fails = np.stack([~given.kept for given in verdicts.values()], axis=1) if verdicts else np.zeros((len(shard), 0))
    first = np.where(fails.any(axis=1), fails.argmax(axis=1), -1) if verdicts else np.full(len(shard), -1)
    score, detail = np.full(len(shard), np.nan), np.full(len(shard), "", object)
    for number, given in enumerate(verdicts.values()):
        rows = np.flatnonzero(first == number)
        score[rows] = given.score[rows]
        detail[rows] = [given.detail(int(row)) for row in rows]
    offsets = np.concatenate([[0], fails.sum(axis=1).cumsum()]).astype(np.int32)
    failed = pa.ListArray.from_arrays(pa.array(offsets), pa.array(names[np.nonzero(fails)[1]], pa.string()))
    reason = np.append(names, "")[first]
    return pa.table(
        [ids, shard, first < 0, pa.array(reason, pa.string()), score, pa.array(detail, pa.string()), failed],
        VERDICT_SCHEMA,
    )


def judged_by(rules: Sequence[Rule]) -> str:
    """What `verdicts.parquet` says of its making: all settings, in the order of judgement."""
    return lhq.store.verdicts.word({rule.measure.name: rule.settings for rule in rules})
