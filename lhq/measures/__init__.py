"""Photo → facts → verdicts: one file a measure.

Measuring is costly and writes facts once; judging is a threshold over facts and is re-run at will. Nothing
is deleted by a judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, TypeVar

import pyarrow as pa

from lhq.config import Settings
from lhq.records import Photo, Verdict
from lhq.shards import Shards

Lane = Literal["cpu", "gpu"]


class MeasureSettings(Settings):
    """Base of a measure's settings: `judgement` names the keys that only move the judgement.

    All other keys decide the facts: when one of them changes, the facts are made anew.
    """

    judgement: ClassVar[frozenset[str]] = frozenset()


S_contra = TypeVar("S_contra", bound=Settings, contravariant=True)


class Measure(Protocol[S_contra]):
    """One kind of facts about photos, and the judgement over them.

    `schema` is the facts table's: `id` first, then the measure's own columns, one row a photo, in the
    shard's order. A photo that can't be measured is a row with `error` set, never a missing row.
    `rows` is how many photos one call of `measure` takes at most: large where decoding must run ahead of a
    GPU. `judged` are the columns that `judge` reads (all others stay on disk).
    """

    name: str
    schema: pa.Schema
    lane: Lane
    rows: int
    judged: Sequence[str]

    def prepare(self, shards: Shards) -> None:
        """The one look over everything (fit a Gaussian, train a classifier); most measures need none."""
        ...

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos: same length, same order, `schema`."""
        ...

    def judge(self, facts: pa.Table, settings: S_contra) -> Sequence[Verdict]:
        """One verdict a row of `facts`, in order: thresholds of `settings`, no look at pixels."""
        ...
