"""Photo → everything in the store about it: papers, facts of every measure, verdicts, and the picture itself."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from lhq.errors import InputError
from lhq.measures import Measure, MeasureSettings
from lhq.measures.contours import contours, hue_of
from lhq.measures.objects import ObjectsSettings
from lhq.processes import HelperProcess
from lhq.records import PAPERS, Verdict
from lhq.report.pictures import small, small_by_helper
from lhq.store import rechecked
from lhq.store.shards import Shards


@dataclass(frozen=True)
class Shown:
    """One photo: `papers` by column, `facts` by measure and column (None: not measured), `verdicts` by measure
    (only of measures that have facts), `image` its bytes. `reason` is the first measure that drops it."""

    shard: int
    row: int
    papers: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, Any] | None]
    verdicts: Mapping[str, Verdict]
    image: bytes

    @property
    def reason(self) -> str:
        return next((name for name, verdict in self.verdicts.items() if not verdict.kept), "")

    def as_dict(self) -> dict[str, Any]:
        """The photo as `--json` prints it: plain values, bytes as base64."""
        return {
            "id": self.papers["id"],
            "shard": self.shard,
            "kept": not self.reason if self.verdicts else None,
            "reason": self.reason,
            "papers": _plain(dict(self.papers)),
            "verdicts": {
                name: {"kept": v.kept, "score": None if np.isnan(v.score) else v.score, "detail": v.detail}
                for name, v in self.verdicts.items()
            },
            "facts": _plain(dict(self.facts)),
        }


def find(store: str, id: str, measures: Mapping[str, Measure[Any]]) -> Shown:
    """The photo with this id, without verdicts.

    Args:
        measures: whose facts to read, in file order.

    Raises:
        InputError: the store holds no such photo.
        ShardDamaged: its shard can't be read.
    """
    photos = Shards(store, "photos")
    for number in photos.numbers():
        row = pc.index(photos.read(number, ["id"])["id"], id).as_py()
        if row < 0:
            continue
        found = photos.read(number, PAPERS).slice(row, 1)
        papers = rechecked.apply(found, rechecked.read(store)).to_pylist()[0]
        image = _image(photos, number, row)
        facts = {name: _facts(Shards(store, f"facts/{name}"), number, row) for name in measures}
        return Shown(number, row, papers, facts, {}, image)
    raise InputError(f"{store}: no photo {id!r}", hint="ids are source:source_id; `lhq list PIPELINE` names them")


def _image(photos: Shards, number: int, row: int) -> bytes:
    """The bytes of one row, without loading those of the others."""
    return next(itertools.islice(photos.images(number), row, None))


def _facts(facts_shards: Shards, number: int, row: int) -> dict[str, Any] | None:
    if not facts_shards.exists(number):
        return None
    found: dict[str, Any] = facts_shards.read(number).slice(row, 1).to_pylist()[0]
    found.pop("id", None)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def picture(shown: Shown, settings: MeasureSettings | None, long_side_px: int = 1600) -> bytes:
    """The photo as JPEG, its long side at most `long_side_px`, with the detections that can count drawn on it.

    Raises:
        ImageError: the photo's bytes don't decode.
    """
    with HelperProcess(small) as helper:
        image = small_by_helper(shown.image, long_side_px, helper)
    facts = shown.facts.get("objects")
    if facts and facts["classes"]:
        image = _drawn(image, facts, settings.min_score if isinstance(settings, ObjectsSettings) else 0.5)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, comment=b"written by lhq show")
    return file.getvalue()


def _drawn(image: Image.Image, facts: Mapping[str, Any], least: float) -> Image.Image:
    size = np.array(image.size, np.float64)
    boxes = np.reshape(np.array(facts["boxes"], np.float64), (-1, 2, 2))
    glass = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(glass)
    font = ImageFont.load_default(max(12, round(max(image.size) / 60)))
    for label, score, mask, (low, high) in zip(facts["classes"], facts["scores"], facts["masks"], boxes, strict=True):
        if score < least:
            continue
        hue = f"hsl({hue_of(label)}, 95%, 62%)"
        colour = Image.new("RGB", (1, 1), hue).getpixel((0, 0))
        assert isinstance(colour, tuple)
        for loop in contours(mask):
            points = [tuple(point) for point in (low + loop * (high - low)) * size]
            pen.polygon(points, fill=(*colour, 70), outline=(*colour, 255), width=2)
        at = tuple((low * size).tolist())
        pen.text(at, f"{label} {score:.2f}", font=font, fill=(*colour, 255), stroke_width=2, stroke_fill="black")
    return Image.alpha_composite(image.convert("RGBA"), glass).convert("RGB")
