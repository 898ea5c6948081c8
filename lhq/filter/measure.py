"""Photo → facts: measure each shard once, until the measure or its measuring settings change.

A facts file holds the fingerprint of its measure and settings, so a shard is measured again if its facts are missing,
damaged or of another fingerprint; thresholds are not part of it. CPU measures share one pass, which reads and decodes
each photo once.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from lhq.engines import Engine, Job, ShardReport
from lhq.errors import RunError, ShardDamaged
from lhq.filter.by_row import Facts, crashed_before, facts_by_row
from lhq.filter.damage import ROTTEN, footer_damage, is_damage, set_aside
from lhq.filter.rule import FACTS_ORIGIN, Rule, is_measured
from lhq.images import max_pixels_limit, set_max_pixels
from lhq.progress import OnProgress, silent
from lhq.records import Photo
from lhq.store.shards import Shards, key

_PAPERS = ("id", "width_px", "height_px", "orientation", "format", "sha256", "licence", "title", "description", "tags")
_MAX_BATCH_BYTES = 128 * 2**20  # of photos in memory at once, whatever number of rows a measure takes


@dataclass(frozen=True)
class MeasureShard(Job):
    """The job that engines run: measure one shard by each of `rules` whose facts it lacks.

    A photo whose bytes have changed on disk gets the error `damaged` and isn't decoded. If workers crashed on the
    shard, `is_by_row` measures each photo in a process of its own, and one that crashes it gets the error `crashed`.
    `earlier` are the rules of an earlier pass; photos that crashed there aren't tried again.
    """

    store: str
    rules: tuple[Rule, ...]
    earlier: tuple[Rule, ...] = ()
    is_by_row: bool = False
    max_pixels: int = field(default_factory=max_pixels_limit)

    def __call__(self, shard: str) -> ShardReport:
        start, number = time.perf_counter(), int(shard)
        set_max_pixels(self.max_pixels)
        missing = [rule for rule in self.rules if not is_measured(self.store, rule, number)]
        damaged = [error for rule in missing if (error := footer_damage(rule.facts(self.store), number))]
        notes = [set_aside(self.store, error) for error in damaged]
        try:
            rows, failed_rows, said = self._measure(number, missing)
        except ShardDamaged as error:
            seconds = time.perf_counter() - start
            return ShardReport(shard, error=str(error), damaged=is_damage(error), seconds=seconds)
        except FileNotFoundError as error:
            return ShardReport(shard, error=f"gone while it was measured ({error})")
        except RunError as error:
            return ShardReport(shard, error=str(error), seconds=time.perf_counter() - start)
        return ShardReport(shard, rows, failed_rows, time.perf_counter() - start, notes=(*notes, *said))

    def lacks(self) -> str:
        """What this machine lacks to run the job: access to the store, or what a measure needs; "" if nothing."""
        if not Shards(self.store, "photos").numbers():
            return f"no photos at {self.store}: every node must reach the store by this address"
        return "; ".join(said for rule in self.rules if (said := rule.measure.lacks()))

    def modules(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(module for rule in self.rules for module in rule.measure.needs))

    def by_row(self) -> MeasureShard:
        return replace(self, is_by_row=True)

    def _measure(self, number: int, missing: list[Rule]) -> tuple[int, int, list[str]]:
        facts: list[list[pa.RecordBatch]] = [[] for _ in missing]
        crashed = crashed_before(self.store, number, self.earlier)
        notes: list[str] = []
        told: set[str] = set()
        for photos, whole in read_photos(Shards(self.store, "photos"), number, missing):
            refused = {
                photo.id: ("damaged", ROTTEN) for photo, is_whole in zip(photos, whole, strict=True) if not is_whole
            }
            refused |= {photo.id: ("crashed", crashed[photo.id]) for photo in photos if photo.id in crashed}
            notes += [f"{id}: {word}: {said}" for id, (word, said) in refused.items() if word == "damaged"]
            measured: Mapping[str, Facts] = {}
            if self.is_by_row:
                measured, died = facts_by_row([photo for photo in photos if photo.id not in refused], missing)
                notes += [f"{id}: crashed: {said}" for id, said in died.items()]
                refused |= {id: ("crashed", said) for id, said in died.items()}
            told |= refused.keys()
            for rule, batches in zip(missing, facts, strict=True):
                batches += _facts(rule, photos, refused, measured)
        rows, failed_rows = 0, 0
        for rule, batches in zip(missing, facts, strict=True):
            table = pa.Table.from_batches(batches, rule.measure.schema).replace_schema_metadata(
                {FACTS_ORIGIN: rule.fingerprint}
            )
            rule.facts(self.store).write(number, table)
            rows = table.num_rows
            if "error" in table.column_names:
                failed_rows = max(failed_rows, rows - table["error"].null_count)
            notes += _crashes(rule, table, told)
        return rows, failed_rows, notes


def _facts(
    rule: Rule, photos: Sequence[Photo], refused: Mapping[str, tuple[str, str]], measured: Mapping[str, Facts]
) -> Iterator[pa.RecordBatch]:
    """Yield facts of these photos in order.

    Args:
        refused: id → (error, message) of photos that are not measured.
        measured: id → facts that exist already.
    """
    refused = refused if rule.measure.needs_bytes else {}
    for is_refused, group in itertools.groupby(photos, lambda photo: photo.id in refused):
        batch_photos = list(group)
        if is_refused:
            names = set(rule.measure.schema.names)
            rows = [
                {"id": p.id, "licence": p.licence, "error": refused[p.id][0], "said": refused[p.id][1]}
                for p in batch_photos
            ]
            kept = [{name: value for name, value in row.items() if name in names} for row in rows]
            yield pa.RecordBatch.from_pylist(kept, rule.measure.schema)
            continue
        if all(rule.name in measured.get(photo.id, {}) for photo in batch_photos):
            yield from (measured[photo.id][rule.name] for photo in batch_photos)
            continue
        batch = rule.measure.measure(batch_photos)
        assert batch.num_rows == len(batch_photos), f"{rule.name}: {batch.num_rows} rows of {len(batch_photos)} photos"
        yield batch


def _crashes(rule: Rule, facts: pa.Table, told: Set[str]) -> list[str]:
    """A note for each photo that killed a helper process of the measure, except those in `told`."""
    if rule.measure.is_apart or not {"error", "said"} <= set(facts.column_names):
        return []
    crashed = facts.select(["id", "error", "said"]).filter(pc.equal(facts["error"], "crashed")).to_pylist()
    return [f"{row['id']}: crashed: {row['said']}" for row in crashed if row["id"] not in told]


def measure_shards(
    store: str,
    rules: Sequence[Rule],
    engine: Engine,
    on_progress: OnProgress = silent,
) -> Iterator[ShardReport]:
    """Measure every shard that lacks facts; yields one report per shard and pass.

    CPU measures share the first pass; each GPU measure has its own, after it. Requirements of all passes are checked
    before the first.

    Raises:
        ConfigError: a machine lacks weights or a program, or can't reach the store.
    """
    photos = Shards(store, "photos")
    cpu_rules = tuple(rule for rule in rules if rule.measure.lane == "cpu")
    passes = [cpu_rules] * bool(cpu_rules) + [(rule,) for rule in rules if rule.measure.lane == "gpu"]
    for rules_of_pass in passes:
        if unmeasured := tuple(r for r in rules_of_pass if not all(is_measured(store, r, n) for n in photos.numbers())):
            engine.check(MeasureShard(store, unmeasured), rules_of_pass[0].measure.lane)
    damaged: set[str] = set()
    for rules_of_pass in passes:
        missing = [n for n in photos.numbers() if not all(is_measured(store, rule, n) for rule in rules_of_pass)]
        missing = [n for n in missing if key(n) not in damaged]
        if not missing:
            continue
        for rule in rules_of_pass:
            rule.measure.prepare(photos)
        names = ", ".join(rule.name for rule in rules_of_pass)
        on_progress(names, 0, len(missing))
        earlier = cpu_rules if rules_of_pass is not cpu_rules else ()
        reports = engine.map(
            MeasureShard(store, rules_of_pass, earlier), [key(n) for n in missing], rules_of_pass[0].measure.lane
        )
        for num_done, report in enumerate(reports, 1):
            on_progress(names, num_done, len(missing))
            if report.damaged:
                damaged.add(report.key)
            yield report


def read_photos(shards: Shards, number: int, rules: Sequence[Rule]) -> Iterator[tuple[list[Photo], list[bool]]]:
    """Yield the photos of one shard in batches that suit all measures, with whether each one's bytes are intact.

    Bytes are left out if no measure needs them.

    Raises:
        ShardDamaged: the shard can't be read, or is not a shard of photos.
    """
    images: Iterator[tuple[bytes, bool]] = itertools.repeat((b"", True))
    if any(rule.measure.needs_bytes for rule in rules):
        images = shards.checked_images(number, shards.read(number, ["sha256"])["sha256"].to_pylist())
    for batch in shards.batches(number, list(_PAPERS), min(rule.measure.rows for rule in rules)):
        photos, whole, num_bytes = [], [], 0
        for row in batch.to_pylist():
            data, is_whole = next(images)
            photos.append(Photo(data=data, **{**row, "tags": tuple(row["tags"])}))
            whole.append(is_whole)
            num_bytes += len(data)
            if num_bytes > _MAX_BATCH_BYTES:
                yield photos, whole
                photos, whole, num_bytes = [], [], 0
        if photos:
            yield photos, whole
