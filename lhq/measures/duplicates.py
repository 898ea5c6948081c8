"""Photo → is it the best version of its scene: exact by sha256, near by perceptual hash and a second look.

Landscapes collide at 64 bits (sky over horizon), so a pair that the hash proposes must be confirmed on small
pictures of both. Confirmed pairs are joined into clusters, and every member must be confirmed against the
keeper itself, so that a chain of small steps can't swallow another scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from PIL import Image

from lhq.licences import LICENCES
from lhq.measures import Lane, MeasureSettings, Verdicts
from lhq.measures.clusters import components, groups
from lhq.measures.look import ROWS, look
from lhq.measures.near_pairs import near_pairs
from lhq.records import Photo
from lhq.shards import Shards

__all__ = ["Duplicates", "DuplicatesSettings", "near_pairs"]


class DuplicatesSettings(MeasureSettings):
    """`[filter.duplicates]`: all keys are thresholds."""

    judgement: ClassVar[frozenset[str]] = frozenset({"radius", "min_likeness", "sources"})

    radius: int = pydantic.Field(10, ge=0, le=16)
    """Bits of 64 in which the hashes of two versions may differ."""
    min_likeness: float = pydantic.Field(0.9, ge=0, le=1)
    """Correlation of the two small pictures from which on they are one scene."""
    sources: tuple[str, ...] = ()
    """Sources from preferred to least, for the choice of the keeper; empty: the pipeline file's order."""


_THUMB = 32


class Duplicates:
    """Facts: sha256, 64-bit perceptual hash and a small grey picture."""

    name = "duplicates"
    lane: Lane = "cpu"
    version = 1
    rows = ROWS
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("sha256", pa.string()),
            pa.field("licence", pa.string()),
            pa.field("pixels", pa.int64()),
            pa.field("phash", pa.uint64()),
            pa.field("thumb", pa.binary(_THUMB * _THUMB)),
        ]
    )
    judged: Sequence[str] = schema.names

    def __init__(self, settings: DuplicatesSettings) -> None:
        self.settings = settings

    def prepare(self, shards: Shards) -> None:
        """Nothing to learn."""

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Hashes and small pictures of these photos."""
        return pa.RecordBatch.from_pylist([_facts(photo) for photo in photos], self.schema)

    def judge(self, facts: pa.Table, settings: DuplicatesSettings) -> Verdicts:
        """Like `judge_among` where no other measure drops anything."""
        return self.judge_among(facts, settings, np.ones(len(facts), bool))

    def judge_among(self, facts: pa.Table, settings: DuplicatesSettings, kept_by_others: np.ndarray) -> Verdicts:
        """Keeps the best of each cluster: one that the other measures keep, then the largest, then the freest
        licence, then source order, then id. The score of a dropped photo is its likeness to the keeper."""
        rank = _rank(facts, settings, kept_by_others)
        keeper, likeness = _clusters(facts, settings, rank)
        kept = keeper == np.arange(len(keeper))
        ids = facts["id"]

        def detail(row: int) -> str:
            return "" if kept[row] else f"same scene as {ids[int(keeper[row])].as_py()} (likeness {likeness[row]:.3f})"

        return Verdicts(self.name, ids, kept, np.where(kept, np.nan, likeness), detail)


def _facts(photo: Photo) -> dict[str, object]:
    seen = look(photo)
    base: dict[str, object] = {
        "id": photo.id,
        "error": seen.error or None,
        "sha256": photo.sha256 or None,
        "licence": photo.licence,
        "pixels": seen.width_px * seen.height_px,
    }
    if seen.rgb is None:
        return base
    grey = Image.fromarray(seen.rgb).convert("L")
    bits = np.packbits(imagehash.phash(grey).hash.reshape(-1))
    thumb = grey.resize((_THUMB, _THUMB), Image.Resampling.BOX)
    return base | {"phash": int(bits.view(">u8")[0]), "thumb": thumb.tobytes()}


def _rank(facts: pa.Table, settings: DuplicatesSettings, kept_by_others: np.ndarray) -> np.ndarray:
    """Place of each row in the order of keepers: int64 [N], 0 is the best."""
    freedom = {licence.id: licence.freedom for licence in LICENCES.values()}
    order = {source: place for place, source in enumerate(settings.sources)}
    licences = facts["licence"].combine_chunks().dictionary_encode()
    by_licence = np.array([freedom.get(name, 9) for name in licences.dictionary.to_pylist()] + [9])
    sources = pc.list_element(pc.split_pattern(facts["id"], ":", max_splits=1), 0).combine_chunks().dictionary_encode()
    by_source = np.array([order.get(name, len(order)) for name in sources.dictionary.to_pylist()])
    ids = pc.rank(facts["id"], tiebreaker="first").to_numpy()
    ranked = np.lexsort(
        [
            ids,
            by_source[sources.indices.to_numpy()],
            by_licence[pc.fill_null(licences.indices, len(by_licence) - 1).to_numpy()],
            -pc.fill_null(facts["pixels"], 0).to_numpy(),
            ~kept_by_others,
        ]
    )
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    return place


def _clusters(facts: pa.Table, settings: DuplicatesSettings, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(keeper, likeness) of each row: int64 [N] (itself where it has no better version) and float64 [N]."""
    num = len(facts)
    keeper, likeness = np.arange(num), np.ones(num)
    rows = np.flatnonzero(pc.is_valid(facts["phash"]).to_numpy())
    hashes = facts["phash"].combine_chunks().drop_null().to_numpy()
    thumbs = _thumbs(facts)[rows]
    pairs = near_pairs(hashes, settings.radius)
    like = _likeness(thumbs, pairs)
    pairs, like = pairs[like >= settings.min_likeness], like[like >= settings.min_likeness]
    label = components(len(rows), pairs)
    for members in groups(label):
        left = members[np.argsort(rank[rows[members]])]
        while len(left) > 1:
            best, rest = left[0], left[1:]
            near = _likeness(thumbs, np.stack([np.full(len(rest), best), rest], axis=1))
            same = near >= settings.min_likeness
            keeper[rows[rest[same]]], likeness[rows[rest[same]]] = rows[best], near[same]
            left = rest[~same]
    return keeper, likeness


def _thumbs(facts: pa.Table) -> np.ndarray:
    """uint8 [N, D], zeros where there is none."""
    column = facts["thumb"].combine_chunks()
    blank = pa.scalar(bytes(_THUMB * _THUMB), column.type)
    flat = np.frombuffer(pc.fill_null(column, blank).buffers()[1], np.uint8)
    return flat.reshape(-1, _THUMB * _THUMB)[: len(column)]


def _likeness(thumbs: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Correlation of the two small pictures of each pair: float64 [M], -1..1."""
    out = np.empty(len(pairs))
    for at in range(0, len(pairs), 4096):
        left, right = (thumbs[pairs[at : at + 4096, side]].astype(np.float32) for side in (0, 1))
        left -= left.mean(axis=1, keepdims=True)
        right -= right.mean(axis=1, keepdims=True)
        scale = np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1)) + 1e-3
        out[at : at + 4096] = (left * right).sum(axis=1) / scale
    return out
