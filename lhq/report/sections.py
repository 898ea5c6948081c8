"""A measure's verdicts → its section of the page: settings, histogram, photos near the limit, clusters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lhq.measures import Measure, MeasureSettings, Verdicts
from lhq.report import picks
from lhq.report.axes import axis_of
from lhq.report.charts import Chart, histogram
from lhq.report.picks import Cluster, Mosaic


@dataclass(frozen=True, slots=True)
class Section:
    """One measure's section."""

    name: str
    question: str
    settings: list[tuple[str, str]]
    num_dropped: int
    num_first: int
    chart: Chart | None
    mosaics: list[Mosaic]
    clusters: list[Cluster]
    is_drawn: bool
    figures: Mapping[int, str]

    def rows(self) -> Iterator[int]:
        """Rows of the store whose pictures it shows."""
        for mosaic in self.mosaics:
            yield from mosaic.rows
        for cluster in self.clusters:
            yield cluster.keeper
            yield from cluster.others


@dataclass(frozen=True)
class Rows:
    """All judged photos, by column: ids and shards, whether they are kept, the first measure that drops each ("" if
    none), how many measures do, and the papers that `shares.papers` reads."""

    ids: list[str]
    shard: npt.NDArray[np.int32]
    kept: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.object_]
    num_failed: npt.NDArray[np.int64]
    papers: Mapping[str, list[object]]


def section(measure: Measure[Any], settings: MeasureSettings, given: Verdicts, rows: Rows) -> Section:
    """One measure's section, from its verdicts on all photos."""
    name, score = measure.name, given.score
    if name == "size":  # its score is that of the failed test; the short side is what a histogram can show
        sides = [np.array(rows.papers[side], np.float64) for side in ("width_px", "height_px")]
        score = np.where(np.isnan(score), np.nan, np.minimum(*sides))
    axis = axis_of(measure.score, settings, score, given.kept)
    clusters: list[Cluster] = []
    mosaics: list[Mosaic] = []
    if measure.judges == "among":
        clusters = picks.clusters(given, {id: row for row, id in enumerate(rows.ids)})
    else:
        others_keep = rows.num_failed == ~given.kept
        mosaics = picks.near(score, given.kept, others_keep, axis.limit if axis else None)
    shown = [row for mosaic in mosaics for row in mosaic.rows]
    return Section(
        name=name,
        question=measure.question,
        settings=[(key, _short(value)) for key, value in settings.model_dump(mode="json", by_alias=True).items()],
        num_dropped=int((~given.kept).sum()),
        num_first=int((rows.reason == name).sum()),
        chart=histogram(score, given.kept, axis) if axis else None,
        mosaics=mosaics,
        clusters=clusters,
        is_drawn=name == "objects",
        figures={row: axis.words(float(score[row])) for row in shown if np.isfinite(score[row])} if axis else {},
    )


def _short(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_short(v)}" for k, v in value.items() if v is not None) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "by itself" if value is None else str(value) or "none"
