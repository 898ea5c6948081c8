"""Verdicts → one self-contained page: what was kept, what was dropped and why, and whether the limits are right.

The page contains its pictures, opens from disk and makes no requests. Its size is bounded (about 6 MB) however large
the store: pictures are samples, counts are complete.
"""

from __future__ import annotations

import datetime
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import pyarrow as pa

from lhq.measures import Measure, MeasureSettings, Verdicts
from lhq.report.page import build


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A page that was written: its path and size, and how many of the store's photos the page shows as kept."""

    path: str
    size_bytes: int
    num_photos: int
    num_kept: int


def render(
    store: str,
    title: str,
    table: pa.Table,
    verdicts: Mapping[str, Verdicts],
    judged_by: Mapping[str, tuple[Measure[Any], MeasureSettings]],
    now: datetime.datetime | None = None,
) -> str:
    """The page as HTML.

    Args:
        table: joined verdicts, `VERDICT_SCHEMA`; `verdicts` are the same rows measure by measure, in file order.
        judged_by: each measure with the settings that judged, by its name.
    """
    page = build(store, title, table, verdicts, judged_by, now or datetime.datetime.now(datetime.UTC))
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
