"""Measure photos one by one, each in a process of its own, for shards on which workers crashed.

Crashes come from decoders. CPU measures run in the child process; GPU measures, whose networks don't survive a fork,
run in the parent after the child has decoded the photo at the scales that they use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lhq.engines.isolated import isolated
from lhq.errors import ImageError, ShardDamaged
from lhq.filter.rule import Rule
from lhq.images import decode
from lhq.processes import Died
from lhq.records import Photo

_SCALES_PX = (112, 400)

Facts = dict[str, pa.RecordBatch]
"""One photo's facts by measure."""


def facts_by_row(photos: Sequence[Photo], rules: Sequence[Rule]) -> tuple[dict[str, Facts], dict[str, str]]:
    """(id → facts of the CPU measures that read bytes, id → how the photo's process died)."""
    facts, died = {}, {}
    for photo in photos:
        done = isolated(_measuring(photo, rules))
        if isinstance(done, Died):
            died[photo.id] = f"the process that measured it died of {done.how}"
        else:
            facts[photo.id] = done
    return facts, died


def _measuring(photo: Photo, rules: Sequence[Rule]) -> Callable[[], Facts]:
    def measure() -> Facts:
        if any(rule.measure.lane == "gpu" for rule in rules):
            for short_side_px in _SCALES_PX:
                try:
                    decode(photo.data, short_side_px=short_side_px)
                except ImageError:
                    break
        mine = [r for r in rules if r.measure.needs_bytes and r.measure.lane == "cpu" and not r.measure.is_apart]
        return {rule.name: rule.measure.measure([photo]) for rule in mine}

    return measure


def crashed_before(store: str, number: int, rules: Sequence[Rule]) -> dict[str, str]:
    """Id → error message of photos that crashed a process when `rules` measured them."""
    found: dict[str, str] = {}
    for rule in rules:
        names = [name for name in ("id", "error", "said") if name in rule.measure.schema.names]
        if "error" not in names:
            continue
        try:
            facts = rule.facts(store).read(number, names)
        except (FileNotFoundError, ShardDamaged):
            continue
        rows = facts.filter(pc.equal(facts["error"], "crashed")).to_pylist()
        found |= {row["id"]: row.get("said") or "it killed a process" for row in rows}
    return found
