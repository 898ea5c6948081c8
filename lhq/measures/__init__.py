"""Photo → facts → verdicts: one file per measure.

Measuring is costly and writes facts once; judging applies thresholds to facts and can be repeated at will. A
judgement deletes nothing.
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
"""How a measure judges: each photo alone by its own facts; by a limit that may be a share of all photos; or by
choosing among all photos (duplicates), for which it must know which ones the other measures keep."""


class MeasureSettings(Settings):
    """Base of a measure's settings: `judgement` names the keys that affect only the judgement.

    All other keys affect the facts, which are made again when one of them changes.
    """

    judgement: ClassVar[frozenset[str]] = frozenset()

    def preferring(self, sources: Sequence[str]) -> Self:
        """These settings, given the order of sources in the pipeline file; most measures ignore it."""
        return self

    def own_columns(self) -> Sequence[str]:
        """Columns that these settings name, exported as NAME_COLUMN; most settings name none."""
        return ()


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a measure's verdicts, for the report: title, unit (`px`, `%`, ``), scale, the settings key with
    the limit, and the side of it on which photos are dropped."""

    title: str
    limit: str
    drops: Literal["above", "below"]
    unit: str = ""
    scale: Literal["linear", "log", "sqrt"] = "linear"


S_contra = TypeVar("S_contra", bound=Settings, contravariant=True)


class Verdicts(Sequence[Verdict]):
    """Verdicts of one measure as columns: 450,000 of them are decided without 450,000 objects.

    Reads as a sequence of `Verdict`. `kept` is bool [N], `score` float64 [N]; `detail(row)` describes row `row` in
    words and is called only for rows that are read.
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
    """Schema of the facts: `id` first, then the measure's own columns, one row per photo, in the shard's order."""
    judged: Sequence[str]
    """The columns that `judge` reads; all others stay on disk."""
    lane: Lane = "cpu"
    version: int = 1
    """Raise it when the code gives other facts for the same photo and settings. Facts are measured again when it,
    `schema` or a key outside the settings' `judgement` changes."""
    rows: int = 32
    """Most photos per call of `measure`: large if decoding must run ahead of a GPU."""
    needs_bytes: bool = True
    """False for a measure that uses only papers, so that no bytes are read for it."""
    needs: Sequence[str] = ()
    """Modules that it imports beyond lhq's core, so that a run can check for them before it begins."""
    is_apart: bool = False
    """True for a measure that works in its own process, whose crash does not kill a worker."""
    judges: Judges = "alone"
    question: str = ""
    """The question it asks about a photo, as a sentence for the report."""
    score: Score | None = None
    """None if its verdicts have no number to plot."""

    def prepare(self, shards: Shards) -> None:
        """A pass over all photos (fit a Gaussian, train a classifier), in the parent process before the first shard
        is measured; most measures need none."""
        return

    def lacks(self) -> str:
        """What this machine lacks to measure ("objects: weights r50.pth are not on disk"); "" if nothing. Every node
        of a cluster is checked; `prepare` ran only on the first."""
        return ""

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos: same length, same order, `schema`."""
        ...

    def judge(self, facts: pa.Table, settings: S_contra) -> Sequence[Verdict]:
        """One verdict per row of `facts`, in order, from the thresholds in `settings`; pixels are not read. Return
        `Verdicts` if there can be many rows.
        """
        ...

    def judge_among(self, facts: pa.Table, settings: S_contra, kept_by_others: np.ndarray) -> Sequence[Verdict]:
        """Like `judge`, for a measure that `judges` among photos; `kept_by_others` is bool [N], true if no other
        measure drops the photo."""
        return self.judge(facts, settings)
