"""What each measure asks, in a sentence, and the axis of its score: unit, scale, and where the limit lies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lhq.measures import MeasureSettings
from lhq.report.charts import Axis

_DOES = {
    "size": "Is the file whole, large enough, still, in colour, without borders, and sharp?",
    "duplicates": "Is it the best version of its scene?",
    "objects": "Do people, animals, vehicles or things cover more of it than the limit allows?",
    "outliers": "Does it look like the photos that are trusted?",
    "connectability": "Can its left and right half be told apart? Then one side can't be continued.",
    "text": "Do its title, description and tags speak of something other than a landscape?",
}


def does(name: str) -> str:
    """One sentence on what a measure asks."""
    return _DOES.get(name, "")


def axis_of(
    name: str, settings: MeasureSettings, score: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_]
) -> Axis | None:
    """The axis of a measure's score; None for a measure without figures."""

    def limit(key: str) -> float | None:
        value = getattr(settings, key, None)
        return None if value is None else float(value)

    if name == "size":
        return Axis("Short side", "px", "log", limit("min_side_px"), "below")
    if name == "duplicates":
        return Axis("Likeness to the version that is kept", "", "linear", limit("min_likeness"), "above")
    if name == "objects":
        return Axis("Share of the picture under what counts", "%", "sqrt", limit("max_area"), "above")
    if name == "outliers":
        bar = limit("min_log_likelihood")
        return Axis("Log-likelihood", "", "linear", _between(score, kept) if bar is None else bar, "below")
    if name == "connectability":
        return Axis("Chance of telling the easier half", "", "linear", limit("max_score"), "above")
    return None


def _between(score: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_]) -> float | None:
    """The limit of a measure that takes the lowest share: between the last dropped and the first kept."""
    finite = np.isfinite(score)
    dropped, stayed = score[finite & ~kept], score[finite & kept]
    return float((dropped.max() + stayed.min()) / 2) if len(dropped) and len(stayed) else None
