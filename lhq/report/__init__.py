"""Verdicts → one self-contained page: what was kept, what was dropped and why, and whether the limits are right.

The page holds its pictures, opens from disk and asks nobody for anything. Its size is bounded (about 6 MB)
however large the store: it shows samples, and counts everything.
"""

from __future__ import annotations

import collections
import datetime
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import jinja2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lhq import __version__
from lhq.errors import ShardDamaged
from lhq.measures import MeasureSettings, Verdicts
from lhq.report import picks, pictures
from lhq.report.axes import axis_of, does
from lhq.report.charts import Chart, histogram
from lhq.report.picks import Cluster, Mosaic
from lhq.report.pictures import Drawn, Picture
from lhq.rights.licences import LICENCES
from lhq.store.shards import Shards

_SHARES = 14


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the funnel: how many photos came, and how many this measure was the first to drop."""

    name: str
    num_in: int
    num_dropped: int


@dataclass(frozen=True, slots=True)
class Share:
    """How many photos of one source, licence or query there are, and how many are kept."""

    name: str
    num: int
    num_kept: int


@dataclass(frozen=True, slots=True)
class Part:
    """One measure's section."""

    name: str
    does: str
    settings: list[tuple[str, str]]
    num_dropped: int
    num_first: int
    chart: Chart | None
    mosaics: list[Mosaic]
    clusters: list[Cluster]
    is_drawn: bool
    figures: Mapping[int, str]


@dataclass(frozen=True)
class Page:
    """Everything the template reads. `pictures` and `drawn` are keyed by row of the store."""

    title: str
    made_at: str
    version: str
    num_photos: int
    num_kept: int
    steps: list[Step]
    parts: list[Part]
    kept_rows: list[int]
    shares: list[tuple[str, list[Share], int]]
    reasons: Mapping[int, str]
    words: Mapping[int, list[tuple[str, bool, str]]]
    pictures: Mapping[int, Picture]
    drawn: Mapping[int, list[Drawn]] = field(default_factory=dict)


def render(
    store: str,
    title: str,
    table: pa.Table,
    verdicts: Mapping[str, Verdicts],
    settings: Mapping[str, MeasureSettings],
    now: datetime.datetime | None = None,
) -> str:
    """The page as HTML.

    Args:
        table: verdicts joined, `VERDICT_SCHEMA`; `verdicts` are the same rows measure by measure, in file order.
        settings: each measure's settings, by its name.
    """
    page = _page(store, title, table, verdicts, settings, now or datetime.datetime.now(datetime.UTC))
    room = importlib.resources.files("lhq.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["percent"] = _percent
    template = environment.from_string((room / "page.html").read_text(encoding="utf-8"))
    style, script = ((room / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return template.render(page=page, style=style, script=script)


def _percent(part: float, whole: float) -> str:
    if not whole:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.1f} %"


def _page(
    store: str,
    title: str,
    table: pa.Table,
    verdicts: Mapping[str, Verdicts],
    settings: Mapping[str, MeasureSettings],
    now: datetime.datetime,
) -> Page:
    kept = table["kept"].to_numpy(zero_copy_only=False)
    shard = table["shard"].to_numpy()
    reason = np.array(table["reason"].to_pylist(), object)
    papers = _papers(store, shard)
    failures = np.zeros(len(table), np.int64)
    for given in verdicts.values():
        failures += ~given.kept
    parts = [
        _part(name, given, settings[name], reason, failures == ~given.kept, papers, table["id"])
        for name, given in verdicts.items()
    ]
    kept_rows = picks.at_random(np.flatnonzero(kept), picks.RANDOM)
    shown = sorted({*kept_rows, *_shown(parts)})
    first = {int(number): int(np.searchsorted(shard, number)) for number in np.unique(shard)}
    wanted: dict[int, list[int]] = collections.defaultdict(list)
    for row in shown:
        wanted[int(shard[row])].append(row - first[int(shard[row])])
    seen = {first[number] + row: picture for number, row, picture in pictures.read(store, wanted)}
    drawn: dict[int, list[Drawn]] = {}
    if objects := settings.get("objects"):
        least, allowed = getattr(objects, "min_score", 0.5), getattr(objects, "allow", ())
        for number, row, found in pictures.detections(store, wanted):
            if (at := first[number] + row) in seen:
                drawn[at] = pictures.draw(found, seen[at], least, allowed)
    return Page(
        title=title,
        made_at=f"{now:%d %B %Y, %H:%M} UTC",
        version=__version__,
        num_photos=len(table),
        num_kept=int(kept.sum()),
        steps=_funnel(reason, list(verdicts)),
        parts=parts,
        kept_rows=[row for row in kept_rows if row in seen],
        shares=_shares(papers, kept),
        reasons={row: str(reason[row]) for row in shown},
        words={row: [(name, bool(v.kept[row]), v.detail(row)) for name, v in verdicts.items()] for row in shown},
        pictures=seen,
        drawn=drawn,
    )


def _funnel(reason: npt.NDArray[np.object_], names: Sequence[str]) -> list[Step]:
    steps, left = [], len(reason)
    for name in names:
        dropped = int((reason == name).sum())
        steps.append(Step(name, left, dropped))
        left -= dropped
    return steps


def _part(
    name: str,
    given: Verdicts,
    settings: MeasureSettings,
    reason: npt.NDArray[np.object_],
    others_keep: npt.NDArray[np.bool_],
    papers: Mapping[str, list[object]],
    ids: pa.ChunkedArray,
) -> Part:
    score = given.score
    if name == "size":  # its score is that of the test failed; the short side is what a histogram can show
        sides = [np.array(papers[side], np.float64) for side in ("width_px", "height_px")]
        score = np.where(np.isnan(score), np.nan, np.minimum(*sides))
    axis = axis_of(name, settings, score, given.kept)
    clusters, mosaics = [], picks.near(score, given.kept, others_keep, axis.limit if axis else None)
    if name == "duplicates":
        clusters = picks.clusters(given, {id: row for row, id in enumerate(ids.to_pylist())})
        mosaics = []
    rows = [row for mosaic in mosaics for row in mosaic.rows]
    return Part(
        name=name,
        does=does(name),
        settings=[(key, _short(value)) for key, value in settings.model_dump(mode="json", by_alias=True).items()],
        num_dropped=int((~given.kept).sum()),
        num_first=int((reason == name).sum()),
        chart=histogram(score, given.kept, axis) if axis else None,
        mosaics=mosaics,
        clusters=clusters,
        is_drawn=name == "objects",
        figures={row: axis.words(float(score[row])) for row in rows if np.isfinite(score[row])} if axis else {},
    )


def _short(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_short(v)}" for k, v in value.items() if v is not None) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "by itself" if value is None else str(value) or "none"


def _shown(parts: Iterable[Part]) -> Iterable[int]:
    for part in parts:
        for mosaic in part.mosaics:
            yield from mosaic.rows
        for cluster in part.clusters:
            yield cluster.keeper
            yield from cluster.others


def _papers(store: str, shard: npt.NDArray[np.int32]) -> dict[str, list[object]]:
    """What the shares and the size chart need, of every row; blanks for a shard that can't be read any more."""
    columns = ["source", "licence", "queries", "width_px", "height_px"]
    found: dict[str, list[object]] = {name: [] for name in columns}
    photos = Shards(store, "photos")
    for number, count in zip(*np.unique(shard, return_counts=True), strict=True):
        try:
            table = photos.read(int(number), columns)
            for name in columns:
                found[name] += table[name].to_pylist()
        except (ShardDamaged, FileNotFoundError):
            for name in columns:
                found[name] += [[] if name == "queries" else 0 if name.endswith("px") else "unreadable"] * int(count)
    return found


def _shares(papers: Mapping[str, list[object]], kept: npt.NDArray[np.bool_]) -> list[tuple[str, list[Share], int]]:
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
        found.append((heading, [Share(name, *both) for name, both in ranked[:_SHARES]], len(ranked)))
    return found


def _list(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
