"""Photo → objects in it (Mask R-CNN) → is it still a landscape.

Facts are all detections above a low score with class, score, box, area and mask, so that thresholds and the list of
allowed classes can change without a GPU. A judgement adds up the area of the detections that count: one person far
away on a beach may stay, a crowd may not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq.config import Settings, WordOrFile
from lhq.errors import LhqError
from lhq.measures import Measure, MeasureSettings, Score, Verdicts, coco
from lhq.measures.detectors import Backend, Detections, Detector, Wanted, open_detector
from lhq.measures.prefetch import Halving, Pixels, Prefetcher
from lhq.records import Lane, Photo


class ClassLimits(Settings):
    """`[filter.objects.classes.<name>]`: limits for a single class."""

    min_score: float | None = pydantic.Field(None, ge=0, le=1)
    max_area: float | None = pydantic.Field(None, ge=0, le=1)


class ObjectsSettings(MeasureSettings):
    """`[filter.objects]`."""

    judgement: ClassVar[frozenset[str]] = frozenset(
        {"min_score", "max_area", "allow", "per_class", "batch", "num_threads", "device", "precision"}
    )

    backend: Backend = "auto"
    """auto (detectron2 if installed, else torchvision), detectron2 or torchvision."""
    weights: WordOrFile = "coco"
    """`coco` (the backend's best R50), `coco-v1`, `coco-v2` (torchvision), `coco-r50`, `coco-x101` (detectron2),
    `sandbox`, or the path of a state dict (.safetensors, .pth)."""
    names: tuple[str, ...] = ()
    """Class names of your own weights, in order; empty: COCO's."""
    low_score: float = pydantic.Field(0.05, gt=0, lt=1)
    """Detections with a lower score are not kept as facts."""
    short_side_px: int | None = pydantic.Field(None, ge=64, le=4096)
    """Short side of the detector's input; empty: as the weights were trained (800, long side at most 1333)."""
    long_side_px: int | None = pydantic.Field(None, ge=64, le=8192)
    """Longest side of the detector's input; empty: the backend's own rule."""
    batch: int = pydantic.Field(8, ge=1)
    """Photos per forward pass; halved automatically when memory runs out."""
    num_threads: int = pydantic.Field(0, ge=0)
    """Decoding threads; 0: one per core."""
    device: str = pydantic.Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto (CUDA if there is a GPU), cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "half", "full"] = "auto"
    """`auto`: half on CUDA, full elsewhere."""

    min_score: float = pydantic.Field(0.5, ge=0, le=1)
    """Lowest score of a detection that counts."""
    max_area: float = pydantic.Field(0.01, ge=0, le=1)
    """Drop a photo if the detections that count cover more than this share of it (overlaps count twice)."""
    allow: tuple[str, ...] = ()
    """Classes that never count."""
    per_class: dict[str, ClassLimits] = pydantic.Field(default_factory=dict, alias="classes")
    """Limits for single classes: `[filter.objects.classes.bird]` with its own `min_score` and `max_area`."""

    @pydantic.field_validator("allow", "per_class")
    @classmethod
    def _classes_are_known(
        cls, given: tuple[str, ...] | dict[str, ClassLimits], info: pydantic.ValidationInfo
    ) -> tuple[str, ...] | dict[str, ClassLimits]:
        names, whose = info.data.get("names") or coco.CLASSES, "names" if info.data.get("names") else "COCO"
        if info.data.get("weights") == "sandbox":
            from lhq.sandbox.objects import OBJECTS

            names, whose = tuple(OBJECTS), "the sandbox"
        coco.check(given, names, whose)
        return given

    @pydantic.field_validator("min_score", "per_class")
    @classmethod
    def _facts_reach_down_to(
        cls, given: float | dict[str, ClassLimits], info: pydantic.ValidationInfo
    ) -> float | dict[str, ClassLimits]:
        low = info.data.get("low_score", 0.0)
        scores = [given] if isinstance(given, float) else [own.min_score for own in given.values()]
        for score in scores:
            if score is not None and score < low:
                raise ValueError(f"min_score {score} is below low_score {low}, under which no detection is kept")
        return given


class Objects(Measure[ObjectsSettings]):
    """Detections of a Mask R-CNN.

    Columns of one photo's N detections, by descending score: `classes`, `scores`, `areas` (share of the picture
    under the mask), `boxes` (4 N numbers: x0, y0, x1, y1 as shares of width and height), `masks` (28 x 28
    packed bits in the box, rows from the top); `detector` identifies the detector.
    """

    name = "objects"
    needs = ("torch", "torchvision")
    settings_class = ObjectsSettings
    question = "Do people, animals, vehicles or things cover more of it than the limit allows?"
    score = Score("Share of the picture under what counts", "max_area", "above", unit="%", scale="sqrt")
    lane: Lane = "gpu"
    rows = 1000
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("said", pa.string()),
            pa.field("detector", pa.string()),
            pa.field("classes", pa.list_(pa.string())),
            pa.field("scores", pa.list_(pa.float32())),
            pa.field("areas", pa.list_(pa.float32())),
            pa.field("boxes", pa.list_(pa.float32())),
            pa.field("masks", pa.list_(pa.binary())),
        ]
    )
    judged: Sequence[str] = ["id", "error", "said", "classes", "scores", "areas"]

    def __init__(self, settings: ObjectsSettings) -> None:
        self.settings = settings

    def lacks(self) -> str:
        """The detector's weights, if missing on this machine."""
        try:
            _open(self.settings)
        except LhqError as error:
            return f"objects: {error}"
        return ""

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos; `error` says why one can't be decoded."""
        detector, detect = _open(self.settings)
        rows: list[dict[str, object]] = [{"id": photo.id, "detector": detector.name} for photo in photos]
        prefetcher = Prefetcher(detector.fit, ahead=3 * self.settings.batch, num_threads=self.settings.num_threads)
        for batch in prefetcher.batches(photos, lambda: detect.batch):
            for row, error in zip(batch.rows, batch.errors, strict=False):
                rows[row] |= {"error": error.reason, "said": error.message}
            if batch.images:
                for row, found in zip(batch.rows, detect(batch.images), strict=True):
                    rows[row] |= _facts(found)
        return pa.RecordBatch.from_pylist(rows, self.schema)

    def judge(self, facts: pa.Table, settings: ObjectsSettings) -> Verdicts:
        """The score is the area that counts, as a share of the picture: of the class whose own limit is broken,
        else of all classes under the common limit."""
        num_rows = facts.num_rows
        classes = facts["classes"].combine_chunks()
        row_D = _rows(classes)
        names = pc.dictionary_encode(classes.flatten())
        names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
        known = names.dictionary.to_pylist()
        code_D = names.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        score_D = facts["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        area_D = facts["areas"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        least_K, group_K, limits = _limits(known, settings)
        # float32 facts against a float64 threshold: 0.7 stored must reach 0.7 set.
        counts_D = (score_D >= least_K[code_D].astype(np.float32)) & (group_K[code_D] >= 0)
        figure = np.zeros(num_rows)
        failed = np.zeros(num_rows, bool)
        culprit = np.full(num_rows, -1)
        for group, limit in enumerate(limits):
            of_D = counts_D & (group_K[code_D] == group)
            total = np.bincount(row_D[of_D], area_D[of_D], num_rows)
            over = (total > limit) & ~failed
            figure = np.where(over | ((group == 0) & ~failed), total, figure)
            failed |= over
            # The last write wins, so the largest of each row is written last.
            at = np.flatnonzero(of_D & over[row_D])
            at = at[np.argsort(area_D[at], kind="stable")]
            culprit[row_D[at]] = at
        broken = pc.is_valid(facts["error"]).to_numpy(zero_copy_only=False)
        figure[broken] = np.nan

        def detail(row: int) -> str:
            if broken[row]:
                return f"{facts['error'][row].as_py()}: {facts['said'][row].as_py()}"
            at = culprit[row]
            if at < 0:
                return ""
            words = f"{known[code_D[at]]} {score_D[at]:.2f} over {area_D[at]:.1%} of the picture"
            return words if figure[row] < 1.05 * area_D[at] else f"{words}, {min(figure[row], 1):.1%} with others"

        return Verdicts(self.name, facts["id"], ~failed & ~broken, np.minimum(figure, 1.0), detail)


@functools.lru_cache(maxsize=1)
def _opened(backend: Backend, wanted: Wanted, batch: int) -> tuple[Detector, Halving[Pixels, Detections]]:
    """One detector per process, since engines give every shard a fresh copy of the measure."""
    detector = open_detector(backend, wanted)
    return detector, Halving(detector.detect, batch, "[filter.objects]")


def _open(settings: ObjectsSettings) -> tuple[Detector, Halving[Pixels, Detections]]:
    return _opened(settings.backend, _wanted(settings), settings.batch)


def _wanted(settings: ObjectsSettings) -> Wanted:
    import torch

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    half = settings.precision == "half" or (settings.precision == "auto" and device.startswith("cuda"))
    return Wanted(
        settings.weights,
        settings.low_score,
        settings.short_side_px,
        settings.long_side_px,
        device,
        half,
        settings.names,
    )


def _facts(found: Detections) -> dict[str, object]:
    return {
        "classes": list(found.classes),
        "scores": found.scores_N,
        "areas": found.areas_N,
        "boxes": found.boxes_N4.ravel(),
        "masks": [mask.tobytes() for mask in found.masks_N],
    }


def _rows(lists: pa.ListArray) -> np.ndarray:
    """The row of every element of a list column, in `flatten` order."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lengths)), lengths)


def _limits(known: list[str], settings: ObjectsSettings) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """For every class that occurs, its minimum score and its group; and the area limit of every group.

    Group 0 is everything under the common limit, -1 is allowed, any other is one class with limits of its own.
    """
    least = np.full(len(known), settings.min_score)
    group = np.zeros(len(known), np.int64)
    limits = [settings.max_area]
    for code, name in enumerate(known):
        if name in settings.allow:
            group[code] = -1
        elif own := settings.per_class.get(name):
            least[code] = settings.min_score if own.min_score is None else own.min_score
            if own.max_area is not None:
                group[code] = len(limits)
                limits.append(own.max_area)
    return least, group, limits
