"""Photo → facts → verdicts: one file a measure.

Measuring is costly and writes facts once; judging is a threshold over facts and is re-run at will. Nothing
is deleted by a judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self, TypeVar, overload

import numpy as np
import pyarrow as pa

from lhq.config import Settings
from lhq.records import Lane, Photo, Verdict
from lhq.store.shards import Shards

Judges = Literal["alone", "by-share", "among"]
"""How a measure judges: each photo alone by its own facts; by a bar that may be a share of all photos; or among all
photos, of which it chooses (duplicates), so that it must know which of them the other measures keep."""


class MeasureSettings(Settings):
    """Base of a measure's settings: `judgement` names the keys that only move the judgement.

    All other keys decide the facts: when one of them changes, the facts are made again.
    """

    judgement: ClassVar[frozenset[str]] = frozenset()

    def preferring(self, sources: Sequence[str]) -> Self:
        """These settings where the pipeline file names its sources in this order; most measures don't care."""
        return self


@dataclass(frozen=True, slots=True)
class Score:
    """What the score of a measure's verdicts is, for the report: its title, its unit (`px`, `%`, ``), how it is best
    laid out, the key of the settings that holds the limit, and on which side of it photos are dropped."""

    title: str
    limit: str
    drops: Literal["above", "below"]
    unit: str = ""
    scale: Literal["linear", "log", "sqrt"] = "linear"


S_contra = TypeVar("S_contra", bound=Settings, contravariant=True)


class Verdicts(Sequence[Verdict]):
    """Verdicts of one measure as columns: 450,000 of them are decided without 450,000 objects.

    Reads as a sequence of `Verdict`. `kept` is bool [N], `score` float64 [N]; `detail(row)` says row `row`
    in words and is only called for rows that somebody reads.
    """

    def __init__(
        self,
        measure: str,
        ids: pa.Array | pa.ChunkedArray,
        kept: np.ndarray,
        score: np.ndarray,
        detail: Callable[[int], str],
    ) -> None:
        assert len(ids) == len(kept) == len(score), "one verdict a row"
        self.measure, self.ids, self.detail = measure, ids, detail
        self.kept = np.asarray(kept, bool)
        self.score = np.asarray(score, np.float64)

    @classmethod
    def of(cls, measure: str, verdicts: Sequence[Verdict]) -> Verdicts:
        """Any sequence of verdicts as columns."""
        if isinstance(verdicts, Verdicts):
            return verdicts
        return cls(
            measure,
            pa.array([v.id for v in verdicts], pa.string()),
            np.fromiter((v.kept for v in verdicts), bool, len(verdicts)),
            np.fromiter((v.score for v in verdicts), np.float64, len(verdicts)),
            lambda row: verdicts[row].detail,
        )

    def __len__(self) -> int:
        return len(self.kept)

    @overload
    def __getitem__(self, row: int) -> Verdict: ...
    @overload
    def __getitem__(self, row: slice) -> list[Verdict]: ...
    def __getitem__(self, row: int | slice) -> Verdict | list[Verdict]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        return Verdict(
            self.ids[row].as_py(), self.measure, bool(self.kept[row]), float(self.score[row]), self.detail(row)
        )


class Measure(Protocol[S_contra]):
    """One kind of facts about photos, and the judgement over them. A class of your own subclasses this one, as
    `class Waterline(Measure[WaterlineSettings])`, and is built as `Waterline(settings)`.

    A photo that can't be measured is a row with `error` set, never a missing row.
    """

    name: str
    """Its key in a pipeline file (`[filter.NAME]`) and its folder of facts."""
    settings_class: type[MeasureSettings]
    schema: pa.Schema
    """Of the facts: `id` first, then the measure's own columns, one row a photo, in the shard's order."""
    judged: Sequence[str]
    """The columns that `judge` reads; all others stay on disk."""
    lane: Lane = "cpu"
    version: int = 1
    """Raised when the code gives other facts for the same photo and settings: facts are measured again when it,
    `schema` or a key outside the settings' `judgement` changes."""
    rows: int = 32
    """How many photos one call of `measure` takes at most: large where decoding must run ahead of a GPU."""
    needs_bytes: bool = True
    """False for a measure that looks at papers only: no bytes are read for it."""
    needs: Sequence[str] = ()
    """Modules that it imports and lhq's core does not bring, so that a run can say so before it begins."""
    is_apart: bool = False
    """True for a measure whose work is done in a process of its own: what kills that does not kill a worker."""
    judges: Judges = "alone"
    question: str = ""
    """What it asks of a photo, as a sentence for the report."""
    score: Score | None = None
    """None where its verdicts have no figure to draw."""

    def prepare(self, shards: Shards) -> None:
        """The one look over everything (fit a Gaussian, train a classifier), in the parent process before the
        first shard is measured; most measures need none."""
        return

    def lacks(self) -> str:
        """What this machine lacks to measure ("objects: weights r50.pth are not on disk"); "" if nothing. Every node
        of a cluster is asked, where `prepare` ran on the first one only."""
        return ""

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos: same length, same order, `schema`."""
        ...

    def judge(self, facts: pa.Table, settings: S_contra) -> Sequence[Verdict]:
        """One verdict a row of `facts`, in order: thresholds of `settings`, no look at pixels.

        Return `Verdicts` where the rows can be many.
        """
        ...

    def judge_among(self, facts: pa.Table, settings: S_contra, kept_by_others: np.ndarray) -> Sequence[Verdict]:
        """Like `judge`, for a measure that `judges` among photos; `kept_by_others` is bool [N], true where no other
        measure drops the photo."""
        return self.judge(facts, settings)
