"""Verdicts → everything the page shows, each picture once."""

from __future__ import annotations

import collections
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lhq import __version__
from lhq.measures import Measure, MeasureSettings, Verdicts
from lhq.measures.objects import ObjectsSettings
from lhq.report import picks, pictures
from lhq.report.pictures import Drawn, Picture
from lhq.report.sections import Rows, Section, section
from lhq.report.shares import Share, opt_outs, papers, shares
from lhq.rights.reservations import SIGNALS, SignalCounts


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the funnel: how many photos reached this measure, and how many it was the first to drop."""

    name: str
    num_in: int
    num_dropped: int


@dataclass(frozen=True)
class Page:
    """The template's data. `pictures` and `drawn` are keyed by row of the store."""

    title: str
    made_at: str
    version: str
    num_photos: int
    num_kept: int
    steps: list[Step]
    parts: list[Section]
    kept_rows: list[int]
    shares: list[tuple[str, list[Share], int]]
    signals: Mapping[str, SignalCounts]
    num_unasked: int
    where: Mapping[str, str]
    reasons: Mapping[int, str]
    words: Mapping[int, list[tuple[str, bool, str]]]
    pictures: Mapping[int, Picture]
    drawn: Mapping[int, list[Drawn]] = field(default_factory=dict)


def build(
    store: str,
    title: str,
    table: pa.Table,
    verdicts: Mapping[str, Verdicts],
    judged_by: Mapping[str, tuple[Measure[Any], MeasureSettings]],
    now: datetime.datetime,
) -> Page:
    """The page of a store; see `lhq.report.render`."""
    shard = table["shard"].to_numpy()
    rows = Rows(
        ids=table["id"].to_pylist(),
        shard=shard,
        kept=table["kept"].to_numpy(zero_copy_only=False),
        reason=np.array(table["reason"].to_pylist(), object),
        num_failed=np.sum([~given.kept for given in verdicts.values()], axis=0, dtype=np.int64),
        papers=papers(store, shard),
    )
    parts = [section(*judged_by[name], given, rows) for name, given in verdicts.items()]
    kept_rows = picks.at_random(np.flatnonzero(rows.kept), picks.RANDOM)
    shown = sorted({*kept_rows, *(row for part in parts for row in part.rows())})
    settings = judged_by["objects"][1] if "objects" in judged_by else None
    signals, num_unasked = opt_outs(rows.papers, rows.kept)
    seen, drawn = _pictures(store, shard, shown, settings if isinstance(settings, ObjectsSettings) else None)
    return Page(
        title=title,
        made_at=f"{now:%d %B %Y, %H:%M} UTC",
        version=__version__,
        num_photos=len(table),
        num_kept=int(rows.kept.sum()),
        steps=_funnel(rows.reason, list(verdicts)),
        parts=parts,
        kept_rows=[row for row in kept_rows if row in seen],
        shares=shares(rows.papers, rows.kept),
        signals=signals,
        num_unasked=num_unasked,
        where=SIGNALS,
        reasons={row: str(rows.reason[row]) for row in shown},
        words={row: [(name, bool(v.kept[row]), v.detail(row)) for name, v in verdicts.items()] for row in shown},
        pictures=seen,
        drawn=drawn,
    )


def _pictures(
    store: str, shard: npt.NDArray[np.int32], shown: Sequence[int], objects: ObjectsSettings | None
) -> tuple[dict[int, Picture], dict[int, list[Drawn]]]:
    """The pictures of the rows shown, and the detections on them, by row."""
    first = {int(number): int(np.searchsorted(shard, number)) for number in np.unique(shard)}
    wanted: dict[int, list[int]] = collections.defaultdict(list)
    for row in shown:
        wanted[int(shard[row])].append(row - first[int(shard[row])])
    seen = {first[number] + row: picture for number, row, picture in pictures.read(store, wanted)}
    drawn: dict[int, list[Drawn]] = {}
    if objects is not None:
        for number, row, found in pictures.detections(store, wanted):
            if (at := first[number] + row) in seen:
                drawn[at] = pictures.draw(found, seen[at], objects.min_score, objects.allow)
    return seen, drawn


def _funnel(reason: npt.NDArray[np.object_], names: Sequence[str]) -> list[Step]:
    steps, left = [], len(reason)
    for name in names:
        dropped = int((reason == name).sum())
        steps.append(Step(name, left, dropped))
        left -= dropped
    return steps
