"""Scores → a histogram in per cent of the page's width, so that it fits any screen.

Bars are stacked: kept below, dropped above. If the tallest bar would flatten all others, heights are logarithmic, and
the page says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Scale = Literal["linear", "log", "sqrt"]
Doubles = npt.NDArray[np.float64]
_BINS = 48
# Each scale and its inverse.
_BENDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "linear": (np.asarray, np.asarray),
    "log": (np.log, np.exp),
    "sqrt": (np.sqrt, np.square),
}


@dataclass(frozen=True, slots=True)
class Axis:
    """What a score is: `unit` is `px`, `%`, `` …; `limit` the threshold (None: there is no single one)."""

    title: str
    unit: str
    scale: Scale
    limit: float | None
    drops: Literal["above", "below"]

    def words(self, value: float) -> str:
        """A value formatted for people."""
        if self.unit == "%":
            return f"{100 * value:.3g} %"
        shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return f"{shown} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin; positions and heights in per cent of the chart."""

    left: float
    width: float
    kept_height: float
    dropped_height: float
    num_kept: int
    num_dropped: int
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram ready to draw; `ticks` and `limit` are (position in per cent, label)."""

    axis: Axis
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    limit: tuple[float, str] | None
    is_log: bool
    num_without: int


def histogram(score: Doubles, kept: npt.NDArray[np.bool_], axis: Axis) -> Chart | None:
    """The chart of these scores; None if there is nothing to draw. NaN scores are only counted."""
    finite = np.isfinite(score)
    if np.unique(score[finite][:100_000]).size < 2:
        return None
    low, high = _range(score[finite], axis)
    bend, unbend = _BENDS[axis.scale]
    edges_at = np.linspace(bend(low), bend(high), _BINS + 1)

    def place(value: float) -> float:
        share = (float(bend(max(value, low))) - edges_at[0]) / (edges_at[-1] - edges_at[0])
        return 100 * min(1.0, max(0.0, float(share)))

    clipped = bend(np.clip(score[finite], low, high))
    counts = [np.histogram(clipped[kept[finite] == is_kept], edges_at)[0] for is_kept in (True, False)]
    total = counts[0] + counts[1]
    is_log = bool(total.max() > 20 * np.median(total[total > 0]))
    tall = np.log1p(total) / np.log1p(total.max()) if is_log else total / total.max()
    bars = []
    for i in np.flatnonzero(total):
        share = counts[0][i] / total[i]
        height = 100 * float(tall[i])
        span = f"{axis.words(float(unbend(edges_at[i])))} to {axis.words(float(unbend(edges_at[i + 1])))}"
        bars.append(
            Bar(
                100 * i / _BINS,
                100 / _BINS,
                height * share,
                height * (1 - share),
                int(counts[0][i]),
                int(counts[1][i]),
                span,
            )
        )
    ticks = [(place(value), axis.words(value)) for value in _ticks(low, high, axis.scale)]
    limit = None if axis.limit is None else (place(axis.limit), axis.words(axis.limit))
    return Chart(axis, bars, ticks, limit, is_log, int((~finite).sum()))


def _range(finite: Doubles, axis: Axis) -> tuple[float, float]:
    """Clip half a per cent at either end to the edge; the limit is always inside."""
    low, high = (float(v) for v in np.quantile(finite, [0.005, 0.995]))
    if axis.limit is not None and math.isfinite(axis.limit):
        low, high = min(low, axis.limit), max(high, axis.limit)
    if axis.scale == "sqrt":
        low = 0.0
    if axis.scale == "log":
        low = max(low, 1.0)
    if axis.unit != "px" and high <= 1 and low >= 0 and axis.scale == "linear":
        high = 1.0
    room = 0.02 * (high - low) if axis.scale == "linear" and high != 1 else 0.0
    return low - room, max(high + room, low + 1e-9)


def _ticks(low: float, high: float, scale: Scale) -> list[float]:
    if scale == "sqrt" and high <= 1:
        return [
            v for v in (0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0) if v <= high * 1.001 and (v == 0 or v > high / 60)
        ]
    if scale == "log":
        steps = [m * 10**e for e in range(7) for m in (1, 2, 5)]
        few = [v for v in steps if low <= v <= high]
        if len(few) > 2:
            return few
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]
