"""Photo → is it whole, large enough, still, coloured, without borders, and sharp.

Sharpness and noise are measured on the reduced picture (an eighth of the size): what is blurred there is blurred
beyond rescue, and noise that shows there survived averaging over 64 pixels. They cost almost nothing compared with
the decode; a finer measurement would double it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq.measures import Measure, MeasureSettings, Score, Verdicts
from lhq.measures.frame import bar
from lhq.measures.preview import ROWS, Preview, preview
from lhq.records import Photo


class SizeSettings(MeasureSettings):
    """`[filter.size]`: all keys are thresholds."""

    judgement: ClassVar[frozenset[str]] = frozenset(
        {"min_side_px", "max_aspect", "allow_grey", "max_border", "min_sharpness", "max_noise"}
    )

    min_side_px: int = pydantic.Field(1024, ge=1)
    """Least short side of the original, in pixels."""
    max_aspect: float = pydantic.Field(4.0, ge=1)
    """Largest ratio of long to short side; beyond it are stitched strips."""
    allow_grey: bool = True
    """False drops photos without colour (a uniform tone such as sepia counts as grey)."""
    max_border: float = pydantic.Field(0.04, ge=0, le=1)
    """Largest share of height or width taken by flat bars (letterbox, frame)."""
    min_sharpness: float = pydantic.Field(0.0, ge=0)
    """Least `sharpness`; 0 keeps all."""
    max_noise: float = pydantic.Field(1.0, gt=0)
    """Largest `noise`; 1 keeps all."""


_FIGURES = {
    "stored_width_px": pa.int32(),
    "stored_height_px": pa.int32(),
    "width_px": pa.int32(),
    "height_px": pa.int32(),
    "mode": pa.string(),
    "bits_per_pixel": pa.float32(),
    "colour": pa.float32(),
    "border": pa.float32(),
    "sharpness": pa.float32(),
    "noise": pa.float32(),
}
_JUDGED = ("width_px", "height_px", "border", "colour", "sharpness", "noise")


class Size(Measure[SizeSettings]):
    """Facts of the whole-file decode.

    `width_px`, `height_px` are the true size, upright. `colour` is the RMS distance of the pixels from their
    own grey after the mean tone is taken away, 0..1; `border` the largest share of a side that flat bars take
    (both ends together), 0..1; `sharpness` the mean absolute second difference over the standard
    deviation of brightness; `noise` the robust standard deviation of brightness against its neighbours, 0..1.
    """

    name = "size"
    settings_class = SizeSettings
    question = "Is the file whole, large enough, still, in colour, without borders, and sharp?"
    score = Score("Short side", "min_side_px", "below", unit="px", scale="log")
    rows = ROWS
    schema = pa.schema(
        [pa.field("id", pa.string(), nullable=False), pa.field("error", pa.string()), pa.field("said", pa.string())]
        + [pa.field(name, kind) for name, kind in _FIGURES.items()]
    )
    judged: Sequence[str] = ["id", "error", "said", *_JUDGED]

    def __init__(self, settings: SizeSettings) -> None:
        self.settings = settings

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos; `error` says why one can't be decoded to its end."""
        # All of them first: a decode evicts the code that computes the figures from the cache.
        previews = [preview(photo) for photo in photos]
        return pa.RecordBatch.from_pylist([_facts(*each) for each in zip(photos, previews, strict=True)], self.schema)

    def judge(self, facts: pa.Table, settings: SizeSettings) -> Verdicts:
        """Whole, then large enough, then the rest; the score is the value of the first failed test, else the short
        side in pixels."""
        failed = pc.is_valid(facts["error"]).to_numpy()
        figure = {name: _column(facts, name) for name in _JUDGED}
        short = np.minimum(figure["width_px"], figure["height_px"])
        with np.errstate(invalid="ignore", divide="ignore"):
            aspect = np.maximum(figure["width_px"], figure["height_px"]) / short
        tests: list[tuple[np.ndarray, np.ndarray, Callable[[int, float], str]]] = [
            (failed, np.full(len(short), np.nan), lambda row, _: _damage(facts, row)),
            (short < settings.min_side_px, short, lambda _, score: f"short side {score:.0f} px"),
            (aspect > settings.max_aspect, aspect, lambda _, score: f"aspect {score:.2f}"),
            (figure["border"] > settings.max_border, figure["border"], lambda _, s: f"flat borders take {s:.0%}"),
            (
                (figure["colour"] < _GREY) & (not settings.allow_grey),
                figure["colour"],
                lambda _, score: f"grey (colour {score:.3f})",
            ),
            (
                figure["sharpness"] < settings.min_sharpness,
                figure["sharpness"],
                lambda _, score: f"blurred (sharpness {score:.2f})",
            ),
            (figure["noise"] > settings.max_noise, figure["noise"], lambda _, score: f"noisy (noise {score:.3f})"),
        ]
        which = np.full(len(short), -1)
        score = short.astype(np.float64)
        for number, (drops, value, _) in reversed(list(enumerate(tests))):
            which[drops] = number
            score[drops] = value[drops]

        def detail(row: int) -> str:
            return tests[which[row]][2](row, score[row]) if which[row] >= 0 else ""

        return Verdicts(self.name, facts["id"], which < 0, score, detail)


# A toned (sepia) print measures about 0.01, a misty but coloured landscape 0.03 and more.
_GREY = 0.02


def _column(facts: pa.Table, name: str) -> np.ndarray:
    figure: np.ndarray = facts[name].cast(pa.float64()).to_numpy()
    return figure


def _damage(facts: pa.Table, row: int) -> str:
    return f"{facts['error'][row].as_py()}: {facts['said'][row].as_py()}"


def _facts(photo: Photo, seen: Preview) -> dict[str, object]:
    base: dict[str, object] = {
        "id": photo.id,
        "error": seen.error or None,
        "said": seen.said or None,
        "stored_width_px": photo.width_px,
        "stored_height_px": photo.height_px,
    }
    if seen.rgbx is None:
        return base
    rgb = seen.rgbx[:, :, :3]
    sharpness, noise = _detail(rgb)
    return base | {
        "width_px": seen.width_px,
        "height_px": seen.height_px,
        "mode": seen.mode,
        "bits_per_pixel": 8 * len(photo.data) / (seen.width_px * seen.height_px),
        "colour": _colour(rgb),
        "border": _border(rgb),
        "sharpness": sharpness,
        "noise": noise,
    }


def _colour(rgb: np.ndarray) -> float:
    """RMS distance from grey once the mean tone is taken away, 0..1, over every eighth pixel each way."""
    few = rgb[::8, ::8].astype(np.float32)
    red, blue = few[:, :, 0] - few[:, :, 1], few[:, :, 2] - few[:, :, 1]
    red -= red.sum() / red.size  # as np.mean, in half its time
    blue -= blue.sum() / blue.size
    # Σ (c - mean of the three)² = 2/3 (r² + b² - r b) for r, b measured from green.
    return float((max(0.0, 2 / 3 * float((red * red + blue * blue - red * blue).sum() / red.size))) ** 0.5 / 255)


def _detail(rgb: np.ndarray) -> tuple[float, float]:
    """(sharpness, noise) of the green channel along every twenty-fourth row and column."""
    bends, spreads, rough = 0.0, 0.0, np.inf
    for lines in (rgb[8::24, :, 1].astype(np.int16), rgb[:, 8::24, 1].T.astype(np.int16)):
        bend = lines[:, 2:] + lines[:, :-2]
        bend -= lines[:, 1:-1]
        bend -= lines[:, 1:-1]
        num = bend.size
        if not num:
            continue
        # Counting the 1,021 values that can be takes a fifth of the time of np.median, and sums of np.std.
        ranks = np.bincount(np.abs(bend, out=bend).ravel("K")).cumsum()
        rough = min(rough, int(np.searchsorted(ranks, [(num - 1) // 2, num // 2], "right").sum()) / 2)
        bends += float(bend.sum()) / num
        tones = lines.ravel("K").astype(np.float32)
        spreads += max(0.0, float(np.vdot(tones, tones)) / len(tones) - (float(tones.sum()) / len(tones)) ** 2) ** 0.5
    if rough == np.inf:
        return 0.0, 0.0
    # The median of |N(0, s²)| is 0.6745 s, and a second difference has six times the variance.
    return bends / (spreads + 1), rough / (0.6745 * 6**0.5 * 255)


def _border(rgb: np.ndarray) -> float:
    """Largest share of a side that flat bars take."""
    shares = []
    for lines in (rgb, rgb.swapaxes(0, 1)):
        shares.append((bar(lines) + bar(lines[::-1])) / len(lines))
    return min(1.0, max(shares))
