"""Rows → what the page shows of them: a small picture, the papers, and the detections drawn over it.

Only the row groups that hold the wanted rows are read, a few at a time.
"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from lhq.errors import ImageError, ShardDamaged
from lhq.images import decode, max_pixels_limit, set_max_pixels
from lhq.measures.contours import hue_of, path
from lhq.processes import Died, HelperProcess
from lhq.rights.licences import LICENCES
from lhq.store import tombstones
from lhq.store.shards import Shards

log = logging.getLogger("lhq")
LONG_SIDE_PX = 360
MAX_DRAWN = 12
_PAPERS = ["id", "source", "author", "licence", "page_url", "title", "description", "queries"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One detection over a picture: `path` in its pixels, the label's place, and whether it counts."""

    label: str
    score: float
    area: float
    path: str
    x: float
    y: float
    hue: int
    counts: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as the page shows it; `data_uri` is empty if the bytes don't decode (`said` says why)."""

    id: str
    title: str
    author: str
    licence: str
    page_url: str
    source: str
    query: str
    width_px: int
    height_px: int
    data_uri: str
    said: str
    drawn: list[Drawn] = field(default_factory=list)


def read(store: str, wanted: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, int, Picture]]:
    """(shard, row in it, picture) of every wanted row; `wanted` maps a shard's number to rows in it.

    Photos that were taken down are skipped; a damaged shard is reported and skipped.
    """
    photos = Shards(store, "photos")
    removed = tombstones.removed_ids(store) | tombstones.removed_sha256(store)
    with HelperProcess(small) as helper:
        for number, rows in sorted(wanted.items()):
            try:
                for row, papers in _rows(photos, number, sorted(set(rows)), [*_PAPERS, "sha256", "image"]):
                    if not removed.intersection([papers["id"], papers["sha256"]]):
                        yield number, row, _picture(papers, helper)
            except ShardDamaged as error:
                log.warning("report: left out: %s", error.message)


def _rows(
    shards: Shards, number: int, rows: Sequence[int], columns: list[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    """Single rows of a shard, without reading the row groups between them."""
    try:
        with shards.open(number) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            start = 0
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                here = [row for row in rows if start <= row < start + size]
                if here:
                    table = parquet.read_row_group(group, columns)
                    for row in here:
                        yield row, table.slice(row - start, 1).to_pylist()[0]
                start += size
    except (OSError, ValueError, KeyError) as error:  # Arrow's own errors are among these
        raise ShardDamaged(f"{shards.path(number)}: not readable ({error})", hint="run lhq filter") from error


def _picture(papers: Mapping[str, object], helper: Helper) -> Picture:
    data_uri, size, said = "", (LONG_SIDE_PX, LONG_SIDE_PX * 2 // 3), ""
    try:
        image = small_by_helper(bytes(papers["image"]), LONG_SIDE_PX, helper)  # type: ignore[call-overload]
        file = io.BytesIO()
        image.save(file, "WEBP", quality=66, method=4)
        data_uri, size = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), image.size
    except ImageError as error:
        said = error.message
    page = str(papers["page_url"])
    licence = LICENCES.get(str(papers["licence"]))
    queries = papers["queries"]
    return Picture(
        id=str(papers["id"]),
        title=" ".join(str(papers["title"] or papers["description"] or "Untitled").split())[:120],
        author=str(papers["author"]),
        licence=licence.name if licence else str(papers["licence"]),
        page_url=page if urlsplit(page).scheme in {"http", "https"} else "",
        source=str(papers["source"]),
        query=", ".join(queries[:3]) if isinstance(queries, list) else "",
        width_px=size[0],
        height_px=size[1],
        data_uri=data_uri,
        said=said,
    )


def small(data: bytes, long_side_px: int, max_pixels: int) -> Image.Image:
    """The photo, upright, its long side at most `long_side_px`.

    Raises:
        ImageError: the bytes don't decode, or have more than `max_pixels`.
    """
    set_max_pixels(max_pixels)
    image = decode(data, short_side_px=long_side_px // 2)
    image.thumbnail((long_side_px, long_side_px), Image.Resampling.LANCZOS)
    return image


Helper = HelperProcess[[bytes, int, int], Image.Image]


def small_by_helper(data: bytes, long_side_px: int, helper: Helper) -> Image.Image:
    """As `small`, in a process of its own.

    Raises:
        ImageError: as `small`; `crashed` if decoding kills that process.
    """
    done = helper(data, long_side_px, max_pixels_limit())
    if isinstance(done, Died):
        raise done.as_image_error
    return done


def detections(store: str, wanted: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, int, dict[str, object]]]:
    """(shard, row, facts) of the object measure for every wanted row that has them."""
    facts = Shards(store, "facts/objects")
    columns = ["classes", "scores", "areas", "boxes", "masks"]
    for number, rows in sorted(wanted.items()):
        if not facts.exists(number):
            continue
        try:
            for row, found in _rows(facts, number, sorted(set(rows)), columns):
                yield number, row, found
        except ShardDamaged as error:
            log.warning("report: left out: %s", error.message)


def draw(found: Mapping[str, object], picture: Picture, least: float, allowed: Sequence[str]) -> list[Drawn]:
    """The detections to draw: those with a score of at least `least`, largest first; `allowed` ones are marked as not
    counting."""
    classes, scores, areas, masks = (found[name] or [] for name in ("classes", "scores", "areas", "masks"))
    boxes = np.reshape(np.asarray(found["boxes"] or [], np.float64), (-1, 4))
    rows = zip(classes, scores, areas, boxes, masks, strict=True)  # type: ignore[call-overload]
    drawn: list[Drawn] = []
    for label, score, area, box, mask in sorted(rows, key=lambda item: -item[2]):
        if score < least or len(drawn) == MAX_DRAWN:
            continue
        drawn.append(
            Drawn(
                label,
                score,
                area,
                path(mask, tuple(box), picture.width_px, picture.height_px),
                float(box[0]) * picture.width_px,
                max(12.0, float(box[1]) * picture.height_px - 3),
                hue_of(label),
                label not in allowed,
            )
        )
    return drawn
