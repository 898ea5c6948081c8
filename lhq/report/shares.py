"""Verdicts by source, licence and query: the photos of each, and how many are kept."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lhq.errors import ShardDamaged
from lhq.rights.licences import LICENCES
from lhq.rights.reservations import SignalCounts, count_signals
from lhq.store import rechecked
from lhq.store.shards import Shards

_SHOWN = 14
_BLANKS: dict[str, object] = {"queries": [], "width_px": 0, "height_px": 0, "reserved": [], "reservations": ""}


@dataclass(frozen=True, slots=True)
class Share:
    """The photos of one source, licence or query, and how many are kept."""

    name: str
    num: int
    num_kept: int


def papers(store: str, shard: npt.NDArray[np.int32]) -> dict[str, list[object]]:
    """The columns that shares, opt-outs and the size chart need, of every row; blank for an unreadable shard."""
    columns = ["id", "source", "licence", "queries", "width_px", "height_px", *rechecked.COLUMNS]
    found: dict[str, list[object]] = {name: [] for name in columns}
    photos, answers = Shards(store, "photos"), rechecked.read(store)
    for number, count in zip(*np.unique(shard, return_counts=True), strict=True):
        try:
            table = rechecked.apply(photos.read(int(number), columns), answers)
            for name in columns:
                found[name] += table[name].to_pylist()
        except (ShardDamaged, FileNotFoundError):
            for name in columns:
                found[name] += [_BLANKS.get(name, "unreadable")] * int(count)
    return found


def shares(papers: Mapping[str, list[object]], kept: npt.NDArray[np.bool_]) -> list[tuple[str, list[Share], int]]:
    """(heading, the largest groups, number of groups in all) by source, licence and query."""
    licences = {id: LICENCES[id].name for id in set(map(str, papers["licence"])) if id in LICENCES}
    groups: list[tuple[str, Iterable[tuple[str, bool]]]] = [
        ("Source", zip(map(str, papers["source"]), kept, strict=True)),
        ("Licence", ((licences.get(str(id), str(id)), k) for id, k in zip(papers["licence"], kept, strict=True))),
        ("Query", ((q, k) for qs, k in zip(papers["queries"], kept, strict=True) for q in _list(qs))),
    ]
    found = []
    for heading, pairs in groups:
        counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        for name, is_kept in pairs:
            counts[name][0] += 1
            counts[name][1] += bool(is_kept)
        ranked = sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))
        found.append((heading, [Share(name, *both) for name, both in ranked[:_SHOWN]], len(ranked)))
    return found


def opt_outs(papers: Mapping[str, list[object]], kept: npt.NDArray[np.bool_]) -> tuple[dict[str, SignalCounts], int]:
    """Signal → its answers for the kept photos; and how many photos were not checked."""
    reservations = [str(said) for said, is_kept in zip(papers["reservations"], kept, strict=True) if is_kept]
    reserved = [_list(names) for names, is_kept in zip(papers["reserved"], kept, strict=True) if is_kept]
    return count_signals(reservations, reserved), reservations.count("")


def _list(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
