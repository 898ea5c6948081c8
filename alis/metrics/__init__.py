"""Generator and dataset → metrics: FID and its kin, EQ-T, path length, seams, repetition. See docs/metrics.md."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from alis import dist
from alis.data import Catalogue, Fit, guarded, open_catalogue
from alis.errors import AlisError, DataError, InputError
from alis.features.extractors import NAMES, Extractor, open_features
from alis.metrics import strip_metrics
from alis.metrics.distances import SUBSET, frechet_distance, kernel_distance, precision_recall
from alis.metrics.geometry import equivariance_db, path_length
from alis.metrics.moments import Moments
from alis.metrics.reference import ReferenceStatistics, SampleOptions, reference_statistics
from alis.models import Generator, sampling
from alis.progress import Advance, counter
from lhq import nearest
from lhq.progress import OnProgress, silent

log = logging.getLogger("alis")
METRICS = ("fid", "inf-fid", "kid", "precision-recall", "eq-t", "path-length", "seam", "repetition", "far-tiles")
COMPARED = ("fid", "inf-fid", "kid", "precision-recall")
"""Metrics that need real pictures."""
_NEEDS_FRAMES = {"fid", "kid", "precision-recall"}
FAR_PX = 10**9
Frames = Callable[..., Tensor]


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure, and how; saved with the results.

    Args:
        num: number of generated pictures for distances (50,000 in papers).
        num_real: number of real pictures for distances; None: all.
        num_kept: how many of each are used for KID, precision and recall.
        num_geometry: number of frames for EQ-T, path length, seam and repetition.
        fit: how real pictures of other sizes are resized.
    """

    metrics: tuple[str, ...] = ("fid", "inf-fid")
    num: int = 50_000
    num_real: int | None = None
    num_kept: int = 10_000
    num_geometry: int = 256
    features: str = "inception"
    psi: float = 1.0
    seed: int = 0
    batch: int = 32
    fit: Fit = "resize"

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            near = nearest.word(unknown[0], METRICS, "") if unknown else ""
            hint = f"{near} choose from {', '.join(METRICS)}".strip()
            raise InputError(f"no metric {', '.join(unknown) or 'given'}", hint=hint)
        if self.num < 2 or self.batch < 1 or (self.num_real is not None and self.num_real < 2):
            raise InputError(
                f"{self.num} pictures against {self.num_real or 'all'} in batches of {self.batch} are too few",
                hint="measure on at least two pictures",
            )


@dataclass(frozen=True)
class MetricResults:
    """The results of a measurement.

    Args:
        figures: values by name.
        refused: metrics that could not be measured, and why.
        extractor: name and version of the feature extractor.
        num_real: number of real pictures.
        num_left_out: number of real pictures that could not be read.
        fingerprint: of the dataset's content.
        kid_subset: size of the subsets for KID.
    """

    figures: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    extractor: str | None = None
    num_real: int | None = None
    num_left_out: int | None = None
    fingerprint: str | None = None
    kid_subset: int | None = None


@dataclass(frozen=True)
class ImageSelection:
    """Which pictures of a dataset to use: image column and variant by name; None: detected.

    `notes` is the folder for `alis.data.guarded`: of a run while it trains; None: in the cache.
    """

    column: str | None = None
    variant: str | None = None
    notes: Path | None = None

    def open(self, data: str, side: int) -> Catalogue:
        """The pictures, the same in all processes."""
        found = dist.run_on_all(lambda: open_catalogue(data, self.column, side=side, variant=self.variant))
        return guarded(found, side, self.notes)


def measure(
    generator: Generator,
    data: str | None,
    plan: EvaluationPlan,
    wanted: ImageSelection | None = None,
    on_progress: OnProgress = silent,
) -> MetricResults:
    """Measure the metrics of a plan; the results do not depend on the number of processes and are the same in all.

    A metric that can't be measured gives a warning and is listed in `refused`; the others are still measured.

    Args:
        data: address of the real pictures; None if no metric needs them ('eq-t', 'path-length', 'far-tiles', 'seam',
            'repetition'). If given, the real pictures' own seam and repetition are measured too.

    Raises:
        InputError, DataError, WeightsMissing: no metric could be measured; the error of the first one.
    """
    found, progress = MetricResults(), _Progress(on_progress)
    compared = [name for name in plan.metrics if name in COMPARED]
    if compared and data is None:
        raise InputError(f"{', '.join(compared)}: needs real pictures to compare with", hint="give --data")
    if compared and data is not None:
        with _record_failure(found, compared, progress):
            found = _with_real(generator, data, wanted or ImageSelection(), plan, found, progress)
    if "eq-t" in plan.metrics:
        with _record_failure(found, ["eq-t"], progress):
            found.figures["eq-t"] = equivariance_db(
                generator,
                plan.num_geometry,
                seed=plan.seed,
                advance=progress.of("eq-t", plan.num_geometry, shared=False),
            )
    if "path-length" in plan.metrics:
        with _record_failure(found, ["path-length"], progress):
            mean, deviation = path_length(
                generator,
                plan.num_geometry,
                seed=plan.seed,
                advance=progress.of("path-length", plan.num_geometry, shared=False),
            )
            found.figures.update({"path-length": mean, "path-length-std": deviation})
    if "far-tiles" in plan.metrics:
        with _record_failure(found, ["far-tiles"], progress):
            extractor = open_features(plan.features, generator.device)
            found.figures.update(_far_tiles(generator, extractor, plan, progress.of("far-tiles", 3 * plan.num)))
            found = replace(found, extractor=extractor.name)
    of_strips = [name for name in plan.metrics if name in {"seam", "repetition"}]
    if of_strips:
        with _record_failure(found, of_strips, progress):
            found.figures.update(_strips(generator, data, wanted or ImageSelection(), plan, progress))
    if not found.figures and progress.error is not None:
        raise progress.error
    for name, reason in found.refused.items():
        log.warning("%s is not measured: %s", name, reason)
    return found


def _with_real(
    generator: Generator,
    data: str,
    pictures: ImageSelection,
    plan: EvaluationPlan,
    found: MetricResults,
    progress: _Progress,
) -> MetricResults:
    """Measure the metrics that compare with real pictures."""
    wanted, side = set(plan.metrics), generator.config.resolution
    extractor = open_features(plan.features, generator.device)
    catalogue = pictures.open(data, side)
    sample = SampleOptions(plan.num_kept, plan.num_real, plan.fit, plan.batch)
    num_real = min(plan.num_real or catalogue.num_images, catalogue.num_images)
    advance = progress.of("real pictures", num_real)
    real = reference_statistics(catalogue, side, extractor, generator.device, sample, advance)
    found = replace(
        found, extractor=extractor.name, num_real=real.num, num_left_out=real.num_left_out, fingerprint=real.content
    )
    if min(real.num, plan.num) <= extractor.num_features and {"fid", "inf-fid"} & wanted:
        log.warning(
            "fid: %d real and %d generated pictures for %d features: distances are biased upwards; "
            "compare them only at the same numbers of pictures",
            real.num,
            plan.num,
            extractor.num_features,
        )
    if "inf-fid" in wanted:
        with _record_failure(found, ["inf-fid"], progress):
            advance = progress.of("frames anywhere", plan.num)
            fakes = _painted(generator, sampling.frames_anywhere, extractor, plan, num_kept=0, advance=advance)
            found.figures["inf-fid"] = _finite(
                frechet_distance(real.mean, real.covariance, fakes.mean, fakes.covariance)
            )
    return _aligned(generator, extractor, real, plan, found, progress) if wanted & _NEEDS_FRAMES else found


def _aligned(
    generator: Generator,
    extractor: Extractor,
    real: ReferenceStatistics,
    plan: EvaluationPlan,
    found: MetricResults,
    progress: _Progress,
) -> MetricResults:
    """Measure the metrics that compare frames at training's positions with real pictures."""
    wanted = set(plan.metrics)
    num_kept = plan.num_kept if wanted & {"kid", "precision-recall"} else 0
    advance = progress.of("frames at patch borders", plan.num)
    fakes = _painted(generator, sampling.frames_aligned, extractor, plan, num_kept=num_kept, advance=advance)
    if "fid" in wanted:
        with _record_failure(found, ["fid"], progress):
            found.figures["fid"] = _finite(frechet_distance(real.mean, real.covariance, fakes.mean, fakes.covariance))
    if "kid" in wanted:
        with _record_failure(found, ["kid"], progress):
            found.figures["kid"] = _finite(kernel_distance(real.kept, fakes.kept, seed=plan.seed))
            found = replace(found, kid_subset=_kid_subset(len(real.kept), len(fakes.kept)))
    if "precision-recall" in wanted:
        with _record_failure(found, ["precision-recall"], progress):
            precision, recall = precision_recall(real.kept, fakes.kept)
            found.figures.update({"precision": precision, "recall": recall})
            if min(len(real.kept), len(fakes.kept)) < plan.num_kept:
                log.warning(
                    "precision and recall are of %d real and %d generated pictures, not of %d: "
                    "compare them only at the same numbers of pictures",
                    len(real.kept),
                    len(fakes.kept),
                    plan.num_kept,
                )
    return found


def _kid_subset(num_real: int, num_fake: int) -> int:
    """The size of KID's subsets; warns if it is smaller than usual."""
    size = min(SUBSET, num_real, num_fake)
    if size < SUBSET:
        log.warning(
            "kid: subsets of %d pictures instead of %d, of %d real and %d generated: noisier than published figures",
            size,
            SUBSET,
            num_real,
            num_fake,
        )
    return size


def _painted(
    generator: Generator, frames: Frames, extractor: Extractor, plan: EvaluationPlan, *, num_kept: int, advance: Advance
) -> ReferenceStatistics:
    """Features of painted frames. Chunk c of `batch` pictures is seeded by (seed, c)."""
    moments = Moments()
    kept: list[Tensor] = []
    num_chunks = -(-plan.num // plan.batch)
    chunks_kept = -(-min(num_kept, plan.num) // plan.batch)
    for chunk in range(dist.rank(), num_chunks, dist.world_size()):
        size = min(plan.batch, plan.num - chunk * plan.batch)
        images = sampling.to_uint8(frames(generator, size, seed=plan.seed * 1_000_003 + chunk, psi=plan.psi))
        features = extractor(images)
        moments.add(features)
        if chunk < chunks_kept:
            kept.append(features.cpu())
        advance(size)
    mean, covariance, num = moments.finish(extractor.num_features, generator.device)
    rows = torch.cat(kept) if kept else torch.zeros(0, extractor.num_features)
    return ReferenceStatistics(mean, covariance, num, _in_order(dist.gather_rows(rows.to(generator.device)).cpu()))


class _Progress:
    """Progress of a measurement, and the first error of its metrics."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self.error: AlisError | None = None

    def of(self, what: str, total: int, *, shared: bool = True) -> Advance:
        """The `advance` callback for a task of `total` pictures.

        Args:
            shared: whether processes share the pictures; then the others are assumed to do as many meanwhile.
        """
        return counter(self._on_progress, what, total, times=dist.world_size() if shared else 1)


@contextmanager
def _record_failure(found: MetricResults, names: Sequence[str], progress: _Progress) -> Iterator[None]:
    """Record an error inside the block as the reason why these metrics are not measured, and continue."""
    try:
        yield
    except AlisError as error:
        progress.error = progress.error or error
        found.refused.update({name: str(error) for name in names if name not in (*found.refused, *found.figures)})


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise DataError(f"the distance is {value}", hint="the model's pictures or the extractor's features have NaN")
    return value


def _far_tiles(generator: Generator, extractor: Extractor, plan: EvaluationPlan, advance: Advance) -> dict[str, float]:
    """Fréchet distance of frames a billion pixels away from frames at the origin; and its floor, of two sets there."""
    moments = []
    for number, around_px in enumerate((0, FAR_PX, 0)):
        found = Moments()
        for chunk in range(dist.rank(), -(-plan.num // plan.batch), dist.world_size()):
            size = min(plan.batch, plan.num - chunk * plan.batch)
            seed = (plan.seed * 3 + number) * 1_000_003 + chunk
            frames = sampling.frames_anywhere(generator, size, seed=seed, psi=plan.psi, around_px=around_px)
            found.add(extractor(sampling.to_uint8(frames)))
            advance(size)
        moments.append(found.finish(extractor.num_features, generator.device)[:2])
    near, far, again = moments
    return {"far-tiles": frechet_distance(*near, *far), "far-tiles-floor": frechet_distance(*near, *again)}


def _strips(
    generator: Generator, data: str | None, pictures: ImageSelection, plan: EvaluationPlan, progress: _Progress
) -> dict[str, float]:
    """Seam and repetition of painted strips, and of as many real ones if there is a dataset."""
    size, tile = generator.config.resolution, generator.config.resolution // generator.config.grid_size
    num = max(plan.num_geometry // strip_metrics.FRAMES, 1)
    figures = {}
    wanted = set(plan.metrics)
    painted = strip_metrics.painted_strips(
        generator, num, seed=plan.seed, psi=plan.psi, advance=progress.of("strips", num, shared=False)
    )
    real = None
    if data is not None:
        real = strip_metrics.real_strips(pictures.open(data, size), size, num, fit=plan.fit)
    if "seam" in wanted:
        figures["seam"] = strip_metrics.seam(painted, tile)
        if real is not None and tile < size:
            figures["seam-real"] = strip_metrics.seam(torch.cat(real.split(size, dim=3)), tile)
    if "repetition" in wanted:
        figures["repetition"] = strip_metrics.repetition(painted, size, tile)
        if real is not None:
            figures["repetition-real"] = strip_metrics.repetition(real, size, tile)
    return figures


def _in_order(rows: Tensor) -> Tensor:
    """Sort rows, so that their order does not depend on which process computed them."""
    return rows[rows.sum(dim=1).double().argsort(stable=True)]


def names(metrics: str | Sequence[str]) -> tuple[str, ...]:
    """Parse the names of metrics from `fid,kid` or a list; `all` means all metrics."""
    parts = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    return METRICS if parts == ["all"] else tuple(part.strip() for part in parts if part.strip())


__all__ = [
    "COMPARED",
    "METRICS",
    "NAMES",
    "EvaluationPlan",
    "ImageSelection",
    "MetricResults",
    "Moments",
    "frechet_distance",
    "kernel_distance",
    "measure",
    "names",
    "precision_recall",
]
