"""Photo → facts → verdicts: one file a measure.

Measuring is costly and writes facts once; judging is a threshold over facts and is re-run at will. Nothing
is deleted by a judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
import pyarrow as pa

from lhq.config import Settings
from lhq.records import Lane, Photo, Verdict
from lhq.store.shards import Shards


class MeasureSettings(Settings):
    """Base of a measure's settings: `judgement` names the keys that only move the judgement.

    All other keys decide the facts: when one of them changes, the facts are made anew.
    """

    judgement: ClassVar[frozenset[str]] = frozenset()


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
    """One kind of facts about photos, and the judgement over them.

    `schema` is the facts table's: `id` first, then the measure's own columns, one row a photo, in the
    shard's order. A photo that can't be measured is a row with `error` set, never a missing row.
    `version` is raised when the code gives other facts for the same photo and settings: facts are measured
    again when it, `schema` or a key outside the settings' `judgement` changes. `rows` is how many photos one
    call of `measure` takes at most: large where decoding must run ahead of a GPU. `judged` are the columns
    that `judge` reads (all others stay on disk). A measure that looks at papers only says
    `needs_bytes = False`, and no bytes are read for it; one whose bar can be a share of all photos says
    `judges_by_share = True`: the others' `judge` looks at each row alone.
    """

    name: str
    schema: pa.Schema
    lane: Lane
    version: int
    rows: int
    judged: Sequence[str]

    def prepare(self, shards: Shards) -> None:
        """The one look over everything (fit a Gaussian, train a classifier), in the parent process before the
        first shard is measured; most measures need none."""
        ...

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos: same length, same order, `schema`."""
        ...

    def judge(self, facts: pa.Table, settings: S_contra) -> Sequence[Verdict]:
        """One verdict a row of `facts`, in order: thresholds of `settings`, no look at pixels.

        Return `Verdicts` where the rows can be many.
        """
        ...


@runtime_checkable
class JudgesAmong(Protocol[S_contra]):
    """A measure that chooses between photos (duplicates): it must know which of them all others keep."""

    def judge_among(self, facts: pa.Table, settings: S_contra, kept_by_others: np.ndarray) -> Sequence[Verdict]:
        """Like `judge`; `kept_by_others` is bool [N], true where no other measure drops the photo."""
        ...
