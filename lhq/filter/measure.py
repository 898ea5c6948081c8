"""Photo → facts: each shard once for every measure, until the measure or what decides its facts changes.

Facts carry in their file what made them, so a shard is measured when its facts are missing, damaged or made
otherwise, and a threshold moves nothing. The CPU measures that a shard lacks are taken together: its photos are read
and decoded once for all of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lhq.engines import Engine, Job, ShardReport
from lhq.errors import RunError, ShardDamaged
from lhq.filter.damage import is_damage
from lhq.filter.rule import MADE, Rule, is_measured
from lhq.progress import OnProgress, silent
from lhq.records import Photo
from lhq.store.shards import Shards, key

_PAPERS = ("id", "width_px", "height_px", "orientation", "format", "sha256", "licence", "title", "description", "tags")


@dataclass(frozen=True)
class MeasureShard(Job):
    """The job that engines run: facts of one shard of photos for each of `rules` that lacks them."""

    store: str
    rules: tuple[Rule, ...]

    def __call__(self, shard: str) -> ShardReport:
        start, number = time.perf_counter(), int(shard)
        todo = [rule for rule in self.rules if not is_measured(self.store, rule, number)]
        try:
            rows, failed_rows = self._measure(number, todo)
        except ShardDamaged as error:
            seconds = time.perf_counter() - start
            return ShardReport(shard, error=str(error), damaged=is_damage(error), seconds=seconds)
        except FileNotFoundError as error:
            return ShardReport(shard, error=f"gone while it was measured ({error})")
        except RunError as error:
            return ShardReport(shard, error=str(error), seconds=time.perf_counter() - start)
        return ShardReport(shard, rows, failed_rows, time.perf_counter() - start)

    def lacks(self) -> str:
        """The store out of reach, or what a measure needs and this machine has not."""
        if not Shards(self.store, "photos").numbers():
            return f"no photos at {self.store}: every node must reach the store by this address"
        return "; ".join(said for rule in self.rules if (said := rule.measure.lacks()))

    def _measure(self, number: int, todo: list[Rule]) -> tuple[int, int]:
        facts: list[list[pa.RecordBatch]] = [[] for _ in todo]
        for photos in read_photos(Shards(self.store, "photos"), number, todo):
            for rule, batches in zip(todo, facts, strict=True):
                batch = rule.measure.measure(photos)
                assert batch.num_rows == len(photos), f"{rule.name}: {batch.num_rows} rows of {len(photos)} photos"
                batches.append(batch)
        rows, failed_rows = 0, 0
        for rule, batches in zip(todo, facts, strict=True):
            table = pa.Table.from_batches(batches, rule.measure.schema).replace_schema_metadata({MADE: rule.made})
            rule.facts(self.store).write(number, table)
            rows = table.num_rows
            if "error" in table.column_names:
                failed_rows = max(failed_rows, rows - table["error"].null_count)
        return rows, failed_rows


def measure_shards(
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
        names = ", ".join(rule.name for rule in group)
        on_progress(names, 0, len(todo))
        reports = engine.map(MeasureShard(store, group), [key(n) for n in todo], group[0].measure.lane)
        for done, report in enumerate(reports, 1):
            on_progress(names, done, len(todo))
            if report.damaged:
                damaged.add(report.key)
            yield report


def read_photos(shards: Shards, number: int, rules: Sequence[Rule]) -> Iterator[list[Photo]]:
    """The photos of one shard in batches that suit all measures; bytes are left out where none of them needs any.

    Raises:
        ShardDamaged: the shard can't be read, or is not a shard of photos.
    """
    needs_bytes = any(rule.measure.needs_bytes for rule in rules)
    images = shards.pictures(number) if needs_bytes else itertools.repeat(b"")
    for batch in shards.batches(number, list(_PAPERS), min(rule.measure.rows for rule in rules)):
        yield [Photo(data=next(images), **{**row, "tags": tuple(row["tags"])}) for row in batch.to_pylist()]
