"""Photo → how bright it is → dropped if it was taken at night.

A measure for lhq as a package of its own. Installed, it is a table of a pipeline file:

    [filter.daylight]
    min_brightness = 0.2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq.errors import ImageError
from lhq.images.decode import decode
from lhq.measures import Measure, MeasureSettings, Score, Verdicts
from lhq.records import Photo


class DaylightSettings(MeasureSettings):
    """`[filter.daylight]`: a key in `judgement` only moves the limit; any other would have the facts made anew."""

    judgement: ClassVar[frozenset[str]] = frozenset({"min_brightness"})

    min_brightness: float = pydantic.Field(0.2, ge=0, le=1)
    """Mean brightness of the picture, 0 is black and 1 is white."""


class Daylight(Measure[DaylightSettings]):
    """Facts: `brightness`, the mean of the grey picture, 0..1."""

    name = "daylight"
    settings_class = DaylightSettings
    question = "Was it taken by day?"
    score = Score("Mean brightness", "min_brightness", "below")
    schema = pa.schema([("id", pa.string()), ("error", pa.string()), ("brightness", pa.float32())])
    judged = ("id", "error", "brightness")

    def __init__(self, settings: DaylightSettings) -> None:
        self.settings = settings

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos; `error` where one can't be decoded."""
        return pa.RecordBatch.from_pylist([_facts(photo) for photo in photos], self.schema)

    def judge(self, facts: pa.Table, settings: DaylightSettings) -> Verdicts:
        """Drops what is darker than the limit, and what could not be decoded."""
        brightness = facts["brightness"].to_numpy()
        kept = np.nan_to_num(brightness, nan=-1.0) >= settings.min_brightness
        errors = facts["error"]

        def detail(row: int) -> str:
            if errors[row].is_valid:
                return str(errors[row].as_py())
            return "" if kept[row] else f"brightness {brightness[row]:.2f}"

        return Verdicts(self.name, facts["id"], kept & pc.is_null(errors).to_numpy(), brightness, detail)


def _facts(photo: Photo) -> dict[str, object]:
    try:
        grey = np.asarray(decode(photo.data, short_side_px=64).convert("L"), np.float32)
    except ImageError as error:
        return {"id": photo.id, "error": error.reason, "brightness": None}
    return {"id": photo.id, "error": None, "brightness": float(grey.mean() / 255)}
