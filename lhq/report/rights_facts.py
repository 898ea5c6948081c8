"""A store's papers → what a lawyer asks about: sources, terms, licences, signals, permissions, takedowns, use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq.errors import InputError
from lhq.rights import rules
from lhq.rights.licences import LICENCES, Rights
from lhq.rights.permissions import replace_prose_permissions
from lhq.rights.policy import Policy
from lhq.rights.reservations import SIGNALS, SignalCounts, count_signals
from lhq.store import rechecked, tombstones, verdicts
from lhq.store.shards import Shards

_COLUMNS = [
    "id",
    "source",
    "url",
    "page_url",
    "author",
    "author_url",
    "attribution",
    "licence",
    "permits",
    "permission",
    "permission_by",
    "permission_on",
    "fetched_at",
    "sha256",
    "size_bytes",
    "reserved",
    "reservations",
]


@dataclass(frozen=True)
class Amount:
    """A number of photos, and their size in bytes as fetched."""

    photos: int
    size_bytes: int


@dataclass(frozen=True)
class Permitted:
    """One permission, and the photos that have it."""

    permits: tuple[str, ...]
    statement: str
    by: str
    on: str
    photos: int


@dataclass(frozen=True)
class RightsFacts:
    """Counts over the photos that are kept and were not taken down; `held` are all of the store.

    `modes` says what each `publish` would contain: mode → reason → photos, "published" among them. `period` are the
    first and the last day on which photos were fetched. `domains` are the hosts of the photos, largest by bytes first.
    """

    held: Amount
    kept: Amount
    is_judged: bool
    period: tuple[str, str]
    sources: dict[str, Amount]
    terms: dict[str, str]
    licences: dict[str, Amount]
    permissions: list[Permitted]
    signals: dict[str, SignalCounts]
    num_unasked: int
    honoured: tuple[str, ...]
    obeys_robots: bool
    denied: int
    takedowns: dict[str, int]
    last_takedown: str
    modes: dict[str, dict[str, int]]
    domains: dict[str, Amount] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """In JSON types."""
        return asdict(self)


def gather(store: str, rights_of: Mapping[str, Rights], policy: Policy, *, obeys_robots: bool = True) -> RightsFacts:
    """The facts of a store.

    Args:
        obeys_robots: whether the pipeline's crawler asks robots.txt, and what else hosts say in files.

    Raises:
        InputError: it holds no photos.
        ShardDamaged: a file of it can't be read.
    """
    photos = Shards(store, "photos")
    numbers = photos.numbers()
    if not numbers:
        raise InputError(f"{store}: no photos", hint="run lhq crawl (or lhq import) first")
    held = pa.concat_tables([photos.read(number, _COLUMNS) for number in numbers])
    judged = verdicts.read(store, ["id", "kept"])
    rows = (
        held
        if judged is None
        else held.filter(pc.is_in(held["id"], judged.filter(judged["kept"])["id"].combine_chunks()))
    )
    removed = tombstones.read(store)
    rows = rows.filter(pc.invert(pc.is_in(rows["id"], removed["id"].combine_chunks())))
    rows = replace_prose_permissions(rechecked.apply(rows, rechecked.read(store)), policy.permissions)
    days = pc.strftime(rows["fetched_at"], "%Y-%m-%d")
    last = pc.max(removed["removed_at"]).as_py()
    sources = sorted(set(rows["source"].to_pylist()))
    return RightsFacts(
        held=_amount(held),
        kept=_amount(rows),
        is_judged=judged is not None,
        period=(pc.min(days).as_py() or "", pc.max(days).as_py() or ""),
        sources=_by(rows, rows["source"].to_pylist()),
        terms={name: rights_of[name].note if name in rights_of else "unknown source" for name in sources},
        licences=_by(rows, rows["licence"].to_pylist()),
        permissions=_permissions(rows),
        signals=count_signals(rows["reservations"].to_pylist(), rows["reserved"].to_pylist()),
        num_unasked=sum(not said for said in rows["reservations"].to_pylist()),
        honoured=tuple(name for name in SIGNALS if name in policy.honour),
        obeys_robots=obeys_robots,
        denied=len(policy.deny_list),
        takedowns=dict(Counter(removed["reason"].to_pylist()).most_common()),
        last_takedown=last.strftime("%Y-%m-%d") if last else "",
        modes=_modes(rows, rights_of, policy),
        domains=_by(rows, [_host(one) for one in rows["url"].to_pylist()]),
    )


def _amount(rows: pa.Table) -> Amount:
    return Amount(len(rows), int(pc.sum(rows["size_bytes"]).as_py() or 0))


def _by(rows: pa.Table, names: list[str]) -> dict[str, Amount]:
    """Photos and bytes by name, the largest first."""
    photos, size = Counter(names), Counter[str]()
    for name, num in zip(names, rows["size_bytes"].to_pylist(), strict=True):
        size[name] += num
    return {name: Amount(photos[name], num) for name, num in sorted(size.items(), key=lambda one: (-one[1], one[0]))}


def _host(url: str) -> str:
    """The photo's host; what lies on a disk has none, and its path is nobody's business."""
    return urlsplit(url).hostname or "(no address)" if url.startswith(("http://", "https://")) else "(no address)"


def _permissions(rows: pa.Table) -> list[Permitted]:
    names = ("permits", "permission", "permission_by", "permission_on")
    papers = zip(*(rows[name].to_pylist() for name in names), strict=True)
    counts = Counter((tuple(permits), *rest) for permits, *rest in papers if permits or rest[0])
    return [Permitted(permits, statement, by, on, num) for (permits, statement, by, on), num in sorted(counts.items())]


def _modes(rows: pa.Table, rights_of: Mapping[str, Rights], policy: Policy) -> dict[str, dict[str, int]]:
    """What each mode of `publish` would contain, and why the rest would be refused or left out."""
    allowed, why = policy.allowed_rows(rows)
    table = rows.filter(pa.array(allowed))
    known = np.asarray([licence in LICENCES and source in rights_of for licence, source in _pairs(table)], bool)
    papers = table.filter(pa.array(known))
    train = rules.evaluate(papers, rights_of, rules.may_train)
    hand_on = train & rules.evaluate(papers, rights_of, rules.may_redistribute)
    adapt = hand_on & rules.evaluate(papers, rights_of, rules.may_adapt)
    base = dict(why)
    if not known.all():
        base["no papers: refused"] = int((~known).sum())
    if not train.all():
        base["machines may not learn from them: refused"] = int((~train).sum())
    whole = {"published": int(train.sum()), **base}
    bytes_ = {"published as fetched (full)": int(hand_on.sum()), "published as squares": int(adapt.sum()), **base}
    if closed := int((train & ~hand_on).sum()):
        bytes_["bytes may not be handed on: refused"] = closed
    return {"private": whole, "manifest": whole, "bytes": bytes_}


def _pairs(rows: pa.Table) -> list[tuple[str, str]]:
    return list(zip(rows["licence"].to_pylist(), rows["source"].to_pylist(), strict=True))
