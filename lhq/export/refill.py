"""An earlier export + the rows of today → a living set: what may still be published stays, each gap is filled.

A gap is a row of the earlier export that may be published no more (taken down, reserved since, dropped by a filter). It
is filled by the best photo of equal kind that the set doesn't hold; where there is none it stays open, is told, and is
filled by a later refill. No other photo is added, so the set keeps its size and every other row its place.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.export import layout, previous

REFILL = "lhq.refill"
"""Key of the manifest's metadata under which a refilled set keeps its open gaps, and photos that can't be rendered."""

_SCORES = (
    (("outliers_log_likelihood",), "descending"),
    (("connectability_p_left", "connectability_p_right"), "ascending"),
)


@dataclass(frozen=True)
class Kind:
    """What a photo must have in common with the one whose gap it fills: source, licence, split, and a query (where no
    query found the one, none found the other)."""

    source: str
    licence: str
    split: str
    queries: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source}, {self.licence}, {self.split}, {' or '.join(self.queries) or 'no query'}"


@dataclass(frozen=True)
class Refilled:
    """`table` is the refilled set in the order it came in. `kinds` maps the id of each of its rows to the kind that is
    missing if the row can't be rendered; `filled` are the replacements among them; `left` are the gaps without one;
    `unfit` are photos that were tried before and can't be rendered."""

    table: pa.Table
    kinds: dict[str, Kind]
    filled: frozenset[str]
    left: tuple[Kind, ...]
    unfit: frozenset[str]

    def open_after(self, published: Iterable[str]) -> list[Kind]:
        """The gaps that are open once rows with these ids are published."""
        lost = self.kinds.keys() - set(published)
        return sorted([*self.left, *(self.kinds[id] for id in lost)], key=str)

    def metadata(self, published: Iterable[str]) -> dict[str, str]:
        """What the manifest keeps for the next refill; {} where nothing is open."""
        there = set(published)
        gaps = [asdict(kind) for kind in self.open_after(there)]
        unfit = sorted(self.unfit | (self.kinds.keys() - there))
        return {REFILL: json.dumps({"gaps": gaps, "unfit": unfit})} if gaps or unfit else {}


def refilled(to: str, table: pa.Table) -> Refilled | None:
    """The rows of the dataset in `to` that are still in `table`, and replacements from it for those that are not.

    Args:
        table: rows that may be published today, with papers, scores and `split`.

    Returns:
        None where `to` holds no dataset yet.

    Raises:
        InputError: `to` holds something else.
    """
    if previous.manifest_ids(to) is None:
        return None
    with pq.ParquetFile(os.path.join(to, layout.MANIFEST), pre_buffer=False) as file:
        earlier = file.read(["id", "source", "licence", "split", "queries"])
        kept = json.loads((file.schema_arrow.metadata or {}).get(REFILL.encode(), b"{}"))
    old = dict(zip(earlier["id"].to_pylist(), _kinds(earlier), strict=True))
    ids = table["id"].to_pylist()
    today = set(ids)
    stay = {id for id in ids if id in old}
    unfit = frozenset({*_failed(to), *kept.get("unfit", [])} & today - stay)
    gaps = [Kind(**{**one, "queries": tuple(one["queries"])}) for one in kept.get("gaps", [])]
    gaps += [kind for id, kind in old.items() if id not in today]
    found, left = _fill(gaps, table, stay | unfit)
    kinds = {**{id: old[id] for id in stay}, **found}
    rows = table.filter(pa.array([id in kinds for id in ids], pa.bool_()))
    return Refilled(rows, kinds, frozenset(found), tuple(left), unfit)


def _fill(gaps: list[Kind], table: pa.Table, taken: set[str]) -> tuple[dict[str, Kind], list[Kind]]:
    """id → the kind of the gap that it fills, and the kinds of gaps that nothing fills."""
    ids, kinds = table["id"].to_pylist(), _kinds(table)
    offers: dict[tuple[str, ...], deque[tuple[int, str]]] = defaultdict(deque)
    for rank, row in enumerate(_best_first(table)):
        if ids[row] not in taken:
            for place in _places(kinds[row]):
                offers[place].append((rank, ids[row]))
    found: dict[str, Kind] = {}
    left = []
    for kind in gaps:
        best = []
        for place in _places(kind):
            while offers[place] and offers[place][0][1] in found:
                offers[place].popleft()
            best += [offers[place][0]] if offers[place] else []
        if best:
            found[min(best)[1]] = kind
        else:
            left.append(kind)
    return found, left


def _places(kind: Kind) -> list[tuple[str, ...]]:
    same = (kind.source, kind.licence, kind.split)
    return [(*same, query) for query in kind.queries] or [same]


def _kinds(rows: pa.Table) -> list[Kind]:
    columns = (rows[name].to_pylist() for name in ("source", "licence", "split", "queries"))
    return [
        Kind(source, licence, split, tuple(queries)) for source, licence, split, queries in zip(*columns, strict=True)
    ]


def _best_first(table: pa.Table) -> np.ndarray:
    """Rows from best to worst, int64 [N]: the likeliest by `outliers`, then the lowest scores of `connectability`,
    then the most pixels; photos without a score come last."""
    keys, order = {}, []
    for names, direction in _SCORES:
        there = [table[name] for name in names if name in table.column_names]
        if there:
            worst = pc.max_element_wise(*there) if len(there) > 1 else there[0]
            keys[names[0]] = worst
            order.append((names[0], direction))
    keys["pixels"] = pc.multiply(table["width_px"].cast(pa.int64()), table["height_px"].cast(pa.int64()))
    keys["id"] = table["id"]
    rows = pc.sort_indices(pa.table(keys), [*order, ("pixels", "descending"), ("id", "ascending")])
    return np.asarray(rows, np.int64)


def _failed(to: str) -> set[str]:
    """Ids that the earlier export could not render."""
    folders = [name for name in os.listdir(to) if layout.is_data_folder(name)]
    files = [path for name in folders for path in previous.data_files(os.path.join(to, name))]
    return {id for path in files for id in previous.failed_rows(path)}
