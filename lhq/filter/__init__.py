"""Photo → facts → verdict: measure each shard once, then judge it by thresholds as often as you like.

A shard of photos that can't be read is moved to `quarantine/` and reported; the others are processed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import lhq.store.verdicts
from lhq.engines import Engine, ShardReport
from lhq.errors import InputError
from lhq.filter.damage import FactsDamaged, quarantine, read_ids, set_aside
from lhq.filter.judge import Judgement, judge_photos
from lhq.filter.measure import measure_shards
from lhq.filter.photo import judge_photo
from lhq.filter.rule import Rule, judged_by
from lhq.progress import OnProgress, silent
from lhq.store.shards import Shards

__all__ = ["FilterReport", "Judgement", "Rule", "judge_photo", "judge_photos", "judged_by", "run"]


@dataclass(frozen=True)
class FilterReport:
    """The result of a filter run.

    `dropped` counts photos by the first measure that drops them, in the pipeline file's order. `failed` are shards that
    could not be measured, `quarantined` the new paths of those that could not be read. `notes` name photos that crashed
    a decoder or whose bytes have changed on disk, and damaged facts.
    """

    num_photos: int
    num_kept: int
    dropped: Mapping[str, int]
    failed: Sequence[ShardReport] = ()
    quarantined: Sequence[str] = ()
    measured: int = 0
    seconds: float = 0.0
    notes: Sequence[str] = ()

    @property
    def funnel(self) -> str:
        """`photos 9,812 · kept 6,104 · size 528 · objects 2,377 · duplicates 803`."""
        parts = [f"photos {self.num_photos:,}", f"kept {self.num_kept:,}"]
        return " · ".join(parts + [f"{name} {num:,}" for name, num in self.dropped.items()])


def run(
    store: str,
    rules: Sequence[Rule],
    engine: Engine,
    *,
    judge_only: bool = False,
    on_progress: OnProgress = silent,
) -> FilterReport:
    """Measure shards that lack facts, judge all photos, and write `verdicts.parquet`.

    Args:
        rules: in the pipeline file's order, which is the order of judgement.
        judge_only: measure nothing.
        on_progress: called with the number of shards done in each pass; a pass is named by its measures.

    Raises:
        InputError: there are no photos, or with `judge_only` some facts are missing or of other settings.
        StoreError: the store can't be written.
    """
    start = time.perf_counter()
    if not Shards(store, "photos").numbers():
        raise InputError(f"{store}: no photos to filter", hint="run `lhq crawl PIPELINE` first")
    reports: list[ShardReport] = []
    if not judge_only:
        for rule in rules:
            rule.facts(store).delete_partial_files()
        reports += measure_shards(store, rules, engine, on_progress)
    known = {report.key for report in reports if report.damaged}
    ids, unreadable = read_ids(store)
    reports += [report for report in unreadable if report.key not in known]
    damaged = [int(report.key) for report in reports if report.damaged]
    quarantined = [quarantine(store, number) for number in damaged]
    ids = {number: some for number, some in ids.items() if number not in damaged}
    failed = [report for report in reports if report.error]
    notes = [note for report in reports for note in report.notes]
    while True:
        try:
            judged = judge_photos(store, rules, unmeasured_allowed=bool(failed), ids=ids)
            break
        except FactsDamaged as error:
            if judge_only:
                raise
            notes.append(set_aside(store, error))
            again = list(measure_shards(store, rules, engine, on_progress))
            failed += [report for report in again if report.error]
    lhq.store.verdicts.write(store, judged.table, judged_by=judged_by(rules))
    reasons = judged.table["reason"].to_numpy(zero_copy_only=False)
    return FilterReport(
        num_photos=len(judged.table),
        num_kept=int(np.count_nonzero(reasons == "")),
        dropped={rule.name: int(np.count_nonzero(reasons == rule.name)) for rule in rules},
        failed=failed,
        quarantined=quarantined,
        measured=sum(not report.error for report in reports),
        seconds=time.perf_counter() - start,
        notes=notes,
    )
