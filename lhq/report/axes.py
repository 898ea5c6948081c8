"""The axis of a measure's score, with the current limit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lhq.measures import MeasureSettings, Score
from lhq.report.charts import Axis


def axis_of(
    scored: Score | None, settings: MeasureSettings, score: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_]
) -> Axis | None:
    """None for a measure without figures."""
    if scored is None:
        return None
    limit = getattr(settings, scored.limit)
    at = _between(score, kept, scored.drops) if limit is None else float(limit)
    return Axis(scored.title, scored.unit, scored.scale, at, scored.drops)


def _between(score: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_], drops: str) -> float | None:
    """The limit of a measure that drops a share of all photos: halfway between the last dropped and the first kept."""
    finite = np.isfinite(score)
    dropped, stayed = score[finite & ~kept], score[finite & kept]
    if not len(dropped) or not len(stayed):
        return None
    return float((dropped.max() + stayed.min()) / 2 if drops == "below" else (dropped.min() + stayed.max()) / 2)
