"""Verdicts → the few photos worth looking at, a bounded number however large the store.

A wrong limit shows near the threshold: in the last photos kept and the first dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lhq.measures import Verdicts

NEAR, FAR, RANDOM, CLUSTERS, MEMBERS = 12, 6, 18, 12, 6
# The wording of a verdict of `lhq.measures.duplicates`, which ends in the id of the photo kept.
_KEEPER = re.compile(r"(?:same bytes as|likeness [\d.]+ to) (.+)")
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Rows of the store shown together under one heading."""

    title: str
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Rows of one scene: the one kept, then its other versions (at most `MEMBERS` shown of `size`)."""

    keeper: int
    others: list[int]
    size: int


def near(
    score: npt.NDArray[np.float64],
    kept: npt.NDArray[np.bool_],
    others_keep: npt.NDArray[np.bool_],
    limit: float | None,
) -> list[Mosaic]:
    """The kept and dropped photos nearest to the limit, and the dropped ones furthest from it. Only photos that no
    other measure drops, if there are any, since only they depend on this limit.
    """
    finite = np.isfinite(score)

    def rows(wanted: npt.NDArray[np.bool_]) -> Rows:
        alone = np.flatnonzero(wanted & others_keep)
        return alone if len(alone) else np.flatnonzero(wanted)

    if limit is None:
        return _named(("Dropped", rows(~kept)[:NEAR]))
    dropped, stayed, unscored = rows(finite & ~kept), rows(finite & kept), rows(~finite & ~kept)
    away = np.abs(score - limit)
    dropped = dropped[np.argsort(away[dropped], kind="stable")]
    stayed = stayed[np.argsort(away[stayed], kind="stable")]
    return _named(
        ("Dropped, nearest to the limit", dropped[:NEAR]),
        ("Kept, nearest to the limit", stayed[:NEAR]),
        ("Dropped, furthest from the limit", dropped[max(NEAR, len(dropped) - FAR) :][::-1]),
        ("Dropped without a score", unscored[:FAR]),
    )


def at_random(rows: Rows, num: int, seed: int = 0) -> list[int]:
    """A fixed sample of `num` of `rows`, in order."""
    chosen = np.random.default_rng(seed).choice(rows, min(num, len(rows)), replace=False)
    return [int(row) for row in np.sort(chosen)]


def clusters(verdicts: Verdicts, row_of: Mapping[str, int]) -> list[Cluster]:
    """The largest clusters of duplicates, largest first."""
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(~verdicts.kept):
        found = _KEEPER.fullmatch(verdicts.detail(int(row)))
        if found and found[1] in row_of:
            members.setdefault(row_of[found[1]], []).append(int(row))
    biggest = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))[:CLUSTERS]
    return [Cluster(keeper, others[: MEMBERS - 1], 1 + len(others)) for keeper, others in biggest]


def top(words: list[str], num: int) -> list[str]:
    """The `num` most frequent words, most frequent first, ties by name."""
    return [word for word, _ in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:num]]


def _named(*mosaics: tuple[str, Rows]) -> list[Mosaic]:
    return [Mosaic(title, [int(row) for row in rows]) for title, rows in mosaics if len(rows)]
