"""Photo → is it the best version of its scene: exact by sha256, near by perceptual hashes and a comparison.

Landscapes collide at 64 bits (sky over horizon), so every pair that a hash proposes is confirmed on small pictures of
both. Confirmed pairs form clusters, and every member must be confirmed against the photo kept, so that a chain of
small differences can't drop another scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from PIL import Image

from lhq.measures import Judges, Measure, MeasureSettings, Score, Verdicts
from lhq.measures.frame import inside
from lhq.measures.keypoints import keypoints, small_grey
from lhq.measures.near_duplicates import THUMB, Descriptors, clusters
from lhq.measures.near_pairs import near_pairs
from lhq.measures.preview import ROWS, preview
from lhq.measures.turns import ways
from lhq.records import Photo
from lhq.rights.licences import LICENCES

__all__ = ["Duplicates", "DuplicatesSettings", "near_pairs"]


_HASHED_PX = 32  # a side, of what imagehash.phash transforms


class DuplicatesSettings(MeasureSettings):
    """`[filter.duplicates]`: all keys are thresholds."""

    judgement: ClassVar[frozenset[str]] = frozenset({"radius", "min_likeness", "turned", "mirrored", "sources"})

    radius: int = pydantic.Field(6, ge=0, le=12)
    """Most differing bits of 64 between the hashes of two whole pictures to compare them."""
    min_likeness: float = pydantic.Field(0.92, gt=0, le=1)
    """Least correlation of the common part of two pictures of the same scene."""
    turned: bool = True
    """Whether copies rotated by 90°, 180° or 270° are versions."""
    mirrored: bool = True
    """Whether mirror images are versions."""
    sources: tuple[str, ...] = ()
    """Sources in order of preference, for choosing the photo to keep; empty: the pipeline file's order."""

    def preferring(self, sources: Sequence[str]) -> Self:
        return self if self.sources else self.model_copy(update={"sources": tuple(sources)})


class Duplicates(Measure[DuplicatesSettings]):
    """Facts: sha256, the 64-bit perceptual hash, keypoint hashes with their positions, a small grey picture; and what
    choosing the photo to keep needs. All but sha256 are of what is inside a plain frame, if there is one: a framed copy
    is a version, and no larger than its picture."""

    name = "duplicates"
    version = 2  # 1 measured pictures with their frames, and hashed them by Lanczos resizing
    settings_class = DuplicatesSettings
    question = "Is it the best version of its scene?"
    score = Score("Likeness to the version that is kept", "min_likeness", "above")
    rows = ROWS
    judges: Judges = "among"
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("sha256", pa.string()),
            pa.field("licence", pa.string()),
            pa.field("width_px", pa.int32()),
            pa.field("height_px", pa.int32()),
            pa.field("phash", pa.uint64()),
            pa.field("thumb", pa.binary(THUMB * THUMB)),
            pa.field("key_hash", pa.list_(pa.uint64())),
            pa.field("key_place", pa.list_(pa.float32())),
        ]
    )
    judged: Sequence[str] = schema.names

    def __init__(self, settings: DuplicatesSettings) -> None:
        self.settings = settings

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Hashes and small pictures of these photos, from the previews that `size` shares."""
        return pa.RecordBatch.from_pylist(_facts(photos), self.schema)

    def judge(self, facts: pa.Table, settings: DuplicatesSettings) -> Verdicts:
        """Like `judge_among`, as if no other measure dropped anything."""
        return self.judge_among(facts, settings, np.ones(len(facts), bool))

    def judge_among(self, facts: pa.Table, settings: DuplicatesSettings, kept_by_others: np.ndarray) -> Verdicts:
        """Keeps the best of each cluster: one that all other measures keep, then the largest, then the most
        permissive licence, then source order, then id. The score of a dropped photo is its likeness to the one kept."""
        rank = _rank(facts, settings, kept_by_others)
        same, alike = _exact(facts, rank)
        one_each = np.flatnonzero((same == np.arange(len(same))) & pc.is_valid(facts["phash"]).to_numpy())
        chief, likeness = clusters(
            _descriptors(facts, one_each),
            rank[one_each],
            settings.radius,
            settings.min_likeness,
            ways(turned=settings.turned, mirrored=settings.mirrored),
        )
        keeper = np.arange(len(facts))
        keeper[one_each] = one_each[chief]
        alike[one_each] = likeness
        alike, keeper = np.where(same == np.arange(len(same)), alike, alike[same]), keeper[same]
        kept = keeper == np.arange(len(keeper))
        ids = facts["id"]

        def detail(row: int) -> str:
            if kept[row]:
                return ""
            how = "same bytes as" if same[row] == keeper[row] else f"likeness {alike[row]:.3f} to"
            return f"{how} {ids[int(keeper[row])].as_py()}"

        return Verdicts(self.name, ids, kept, np.where(kept, np.nan, alike), detail)


def _facts(photos: Sequence[Photo]) -> list[dict[str, object]]:
    previews = [preview(photo) for photo in photos]
    pictures = {row: inside(seen.rgbx) for row, seen in enumerate(previews) if seen.rgbx is not None}
    greys = {row: small_grey(rgbx) for row, rgbx in pictures.items()}
    keys = dict(zip(greys, keypoints(list(greys.values())), strict=True))
    rows = []
    for row, (photo, seen) in enumerate(zip(photos, previews, strict=True)):
        facts: dict[str, object] = {
            "id": photo.id,
            "error": seen.error or None,
            "sha256": photo.sha256 or None,
            "licence": photo.licence,
        }
        if row in greys and seen.rgbx is not None:
            height, width = (pictures[row].shape[axis] / seen.rgbx.shape[axis] for axis in (0, 1))
            facts |= {
                "width_px": round(width * seen.width_px),
                "height_px": round(height * seen.height_px),
                "phash": _phash(greys[row]),
                "thumb": greys[row].resize((THUMB, THUMB), Image.Resampling.BOX).tobytes(),
                "key_hash": keys[row].hashes,
                "key_place": keys[row].places.reshape(-1),
            }
        rows.append(facts)
    return rows


def _phash(grey: Image.Image) -> int:
    """The perceptual hash of a small grey picture. It sees 32 × 32 pixels; averages are as good as imagehash's own
    resizing, in a quarter of its time."""
    few = grey.resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX)
    return int(np.packbits(imagehash.phash(few).hash.reshape(-1)).view(">u8")[0])


def _rank(facts: pa.Table, settings: DuplicatesSettings, kept_by_others: np.ndarray) -> np.ndarray:
    """Place of each row in the order of keepers: int64 [N], 0 is the best."""
    freedom = {id: LICENCES[id].freedom for id in pc.unique(facts["licence"]).to_pylist() if id in LICENCES}
    order = {source: place for place, source in enumerate(settings.sources)}
    source = pc.list_element(pc.split_pattern(facts["id"], ":", max_splits=1), 0)
    pixels = _numbers(facts, "width_px") * _numbers(facts, "height_px")
    ranked = np.lexsort(
        [
            pc.rank(facts["id"], tiebreaker="first").to_numpy(),
            _places(source, order, len(order)),
            _places(facts["licence"], freedom, 9),
            -pixels,
            ~kept_by_others,
        ]
    )
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    return place


def _places(words: pa.ChunkedArray, order: dict[str, int], last: int) -> np.ndarray:
    """The number of each word in `order`, `last` for words it lacks: int64 [N]."""
    coded = words.combine_chunks().dictionary_encode(null_encoding="encode")
    given = coded.dictionary.to_pylist()
    numbers = np.array([last if word is None else order.get(word, last) for word in given], np.int64)
    return numbers[coded.indices.to_numpy()] if len(words) else np.empty(0, np.int64)


def _numbers(facts: pa.Table, name: str) -> np.ndarray:
    numbers: np.ndarray = pc.fill_null(facts[name], 0).to_numpy().astype(np.int64)
    return numbers


def _exact(facts: pa.Table, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(best row with the same bytes, ones): int64 [N], itself where there is no other, and float64 [N]."""
    coded = facts["sha256"].combine_chunks().dictionary_encode()
    code = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy()
    code = np.where(code < 0, len(coded.dictionary) + np.arange(len(code)), code)
    order = np.lexsort((rank, code))
    first = np.ones(len(code), bool)
    first[1:] = code[order[1:]] != code[order[:-1]]
    best = np.empty(len(code), np.int64)
    best[order] = order[np.maximum.accumulate(np.where(first, np.arange(len(code)), 0))]
    return best, np.ones(len(code))


def _descriptors(facts: pa.Table, rows: np.ndarray) -> Descriptors:
    """Facts of `rows`, ascending, as columns of numpy; shard by shard, so that each picture is copied once."""
    wanted = np.zeros(len(facts), bool)
    wanted[rows] = True
    thumb = np.empty((len(rows), THUMB * THUMB), np.uint8)
    hashes, places, num_keys = [np.empty(0, np.uint64)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    first, filled = 0, 0
    for batch in facts.select(["thumb", "key_hash", "key_place"]).to_batches():
        some = wanted[first : first + len(batch)]
        first += len(batch)
        part = batch if some.all() else batch.filter(pa.array(some))
        pixels = np.frombuffer(part["thumb"].buffers()[1], np.uint8).reshape(-1, THUMB * THUMB)
        thumb[filled : filled + len(part)] = pixels[part["thumb"].offset :][: len(part)]
        filled += len(part)
        hashes.append(part["key_hash"].flatten().to_numpy())
        places.append(part["key_place"].flatten().to_numpy())
        num_keys.append(pc.list_value_length(part["key_hash"]).to_numpy())
    size = np.stack([_numbers(facts, "width_px")[rows], _numbers(facts, "height_px")[rows]], axis=1).astype(np.float32)
    return Descriptors(
        phash=pc.fill_null(facts["phash"], 0).to_numpy()[rows],
        thumb=thumb,
        sides=size / size.min(axis=1, keepdims=True),
        key_hash=np.concatenate(hashes),
        key_place=np.concatenate(places).reshape(-1, 3),
        key_photo=np.repeat(np.arange(len(rows)), np.concatenate(num_keys)),
        brightness=thumb.sum(axis=1, dtype=np.uint32),
    )
