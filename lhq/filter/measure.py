"""Photo → facts: each shard once for every measure, until the measure or what decides its facts changes.

Facts carry in their file what made them, so a shard is measured when its facts are missing, damaged or made
otherwise, and a threshold moves nothing. The CPU measures that a shard lacks are taken together: its photos are read
and decoded once for all of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from lhq.engines import Engine, Job, ShardReport
from lhq.errors import RunError, ShardDamaged
from lhq.filter.by_row import Facts, crashed_before, facts_by_row
from lhq.filter.damage import ROTTEN, is_damage
from lhq.filter.rule import MADE, Rule, is_measured
from lhq.images import max_pixels_limit, set_max_pixels
from lhq.progress import OnProgress, silent
from lhq.records import Photo
from lhq.store.shards import Shards, key

_PAPERS = ("id", "width_px", "height_px", "orientation", "format", "sha256", "licence", "title", "description", "tags")
_MOST_BYTES = 128 * 2**20  # of photos held at a time, however many rows a measure takes


@dataclass(frozen=True)
class MeasureShard(Job):
    """The job that engines run: facts of one shard of photos for each of `rules` that lacks them.

    A photo whose bytes are not those that were fetched gets facts with the error `damaged` and is not decoded. Where
    workers died on the shard, each photo is measured in a process of its own (`is_by_row`), and one that kills it gets
    the error `crashed`. `earlier` are rules of a pass before: photos that crashed there are not tried again.
    """

    store: str
    rules: tuple[Rule, ...]
    earlier: tuple[Rule, ...] = ()
    is_by_row: bool = False
    max_pixels: int = field(default_factory=max_pixels_limit)

    def __call__(self, shard: str) -> ShardReport:
        start, number = time.perf_counter(), int(shard)
        set_max_pixels(self.max_pixels)
        todo = [rule for rule in self.rules if not is_measured(self.store, rule, number)]
        try:
            rows, failed_rows, notes = self._measure(number, todo)
        except ShardDamaged as error:
            seconds = time.perf_counter() - start
            return ShardReport(shard, error=str(error), damaged=is_damage(error), seconds=seconds)
        except FileNotFoundError as error:
            return ShardReport(shard, error=f"gone while it was measured ({error})")
        except RunError as error:
            return ShardReport(shard, error=str(error), seconds=time.perf_counter() - start)
        return ShardReport(shard, rows, failed_rows, time.perf_counter() - start, notes=tuple(notes))

    def lacks(self) -> str:
        """The store out of reach, or what a measure needs and this machine has not."""
        if not Shards(self.store, "photos").numbers():
            return f"no photos at {self.store}: every node must reach the store by this address"
        return "; ".join(said for rule in self.rules if (said := rule.measure.lacks()))

    def modules(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(module for rule in self.rules for module in rule.measure.needs))

    def by_row(self) -> MeasureShard:
        return replace(self, is_by_row=True)

    def _measure(self, number: int, todo: list[Rule]) -> tuple[int, int, list[str]]:
        facts: list[list[pa.RecordBatch]] = [[] for _ in todo]
        crashed = crashed_before(self.store, number, self.earlier)
        notes: list[str] = []
        for photos, whole in read_photos(Shards(self.store, "photos"), number, todo):
            refused = {
                photo.id: ("damaged", ROTTEN) for photo, is_whole in zip(photos, whole, strict=True) if not is_whole
            }
            refused |= {photo.id: ("crashed", crashed[photo.id]) for photo in photos if photo.id in crashed}
            notes += [f"{id}: {word}: {said}" for id, (word, said) in refused.items() if word == "damaged"]
            done: Mapping[str, Facts] = {}
            if self.is_by_row:
                done, died = facts_by_row([photo for photo in photos if photo.id not in refused], todo)
                notes += [f"{id}: crashed: {said}" for id, said in died.items()]
                refused |= {id: ("crashed", said) for id, said in died.items()}
            for rule, batches in zip(todo, facts, strict=True):
                batches += _facts(rule, photos, refused, done)
        rows, failed_rows = 0, 0
        for rule, batches in zip(todo, facts, strict=True):
            table = pa.Table.from_batches(batches, rule.measure.schema).replace_schema_metadata({MADE: rule.made})
            rule.facts(self.store).write(number, table)
            rows = table.num_rows
            if "error" in table.column_names:
                failed_rows = max(failed_rows, rows - table["error"].null_count)
        return rows, failed_rows, notes


def _facts(
    rule: Rule, photos: Sequence[Photo], refused: Mapping[str, tuple[str, str]], done: Mapping[str, Facts]
) -> Iterator[pa.RecordBatch]:
    """Facts of these photos in order; `refused` maps an id to the error and its sentence where none can be made, and
    `done` to facts that were made already."""
    refused = refused if rule.measure.needs_bytes else {}
    for is_refused, group in itertools.groupby(photos, lambda photo: photo.id in refused):
        some = list(group)
        if is_refused:
            names = set(rule.measure.schema.names)
            rows = [
                {"id": p.id, "licence": p.licence, "error": refused[p.id][0], "said": refused[p.id][1]} for p in some
            ]
            kept = [{name: value for name, value in row.items() if name in names} for row in rows]
            yield pa.RecordBatch.from_pylist(kept, rule.measure.schema)
            continue
        if all(rule.name in done.get(photo.id, {}) for photo in some):
            yield from (done[photo.id][rule.name] for photo in some)
            continue
        batch = rule.measure.measure(some)
        assert batch.num_rows == len(some), f"{rule.name}: {batch.num_rows} rows of {len(some)} photos"
        yield batch


def measure_shards(
    store: str,
    rules: Sequence[Rule],
    engine: Engine,
    on_progress: OnProgress = silent,
) -> Iterator[ShardReport]:
    """Facts of every shard that lacks them, one report a shard and pass: CPU measures share one pass, each GPU
    measure has its own, after them. What a machine lacks for any of them is told before the first.

    Raises:
        ConfigError: a machine lacks weights or a program, or can't reach the store.
    """
    photos = Shards(store, "photos")
    together = tuple(rule for rule in rules if rule.measure.lane == "cpu")
    passes = [together] * bool(together) + [(rule,) for rule in rules if rule.measure.lane == "gpu"]
    for group in passes:
        if lacking := tuple(r for r in group if not all(is_measured(store, r, n) for n in photos.numbers())):
            engine.check(MeasureShard(store, lacking), group[0].measure.lane)
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
        earlier = together if group is not together else ()
        reports = engine.map(MeasureShard(store, group, earlier), [key(n) for n in todo], group[0].measure.lane)
        for done, report in enumerate(reports, 1):
            on_progress(names, done, len(todo))
            if report.damaged:
                damaged.add(report.key)
            yield report


def read_photos(shards: Shards, number: int, rules: Sequence[Rule]) -> Iterator[tuple[list[Photo], list[bool]]]:
    """The photos of one shard in batches that suit all measures, and of each whether its bytes are still those that
    were fetched; bytes are left out where no measure needs any.

    Raises:
        ShardDamaged: the shard can't be read, or is not a shard of photos.
    """
    images: Iterator[tuple[bytes, bool]] = itertools.repeat((b"", True))
    if any(rule.measure.needs_bytes for rule in rules):
        images = shards.checked_pictures(number, shards.read(number, ["sha256"])["sha256"].to_pylist())
    for batch in shards.batches(number, list(_PAPERS), min(rule.measure.rows for rule in rules)):
        photos, whole, held = [], [], 0
        for row in batch.to_pylist():
            data, is_whole = next(images)
            photos.append(Photo(data=data, **{**row, "tags": tuple(row["tags"])}))
            whole.append(is_whole)
            held += len(data)
            if held > _MOST_BYTES:
                yield photos, whole
                photos, whole, held = [], [], 0
        if photos:
            yield photos, whole
