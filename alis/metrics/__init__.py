"""Generator and dataset → figures: FID, ∞-FID, KID, precision, recall, EQ-T, path length. See docs/metrics.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alis import dist
from alis.data import Fit, open_catalogue
from alis.errors import InputError
from alis.features.extractors import NAMES, Extractor, open_features
from alis.metrics.distances import frechet, kernel, precision_recall
from alis.metrics.geometry import equivariance_db, path_length
from alis.metrics.moments import Moments
from alis.metrics.reference import Reference, reference
from alis.models import Generator, sampling

log = logging.getLogger("alis")
METRICS = ("fid", "inf-fid", "kid", "precision-recall", "eq-t", "path-length")
_NEEDS_FRAMES = {"fid", "kid", "precision-recall"}
Frames = Callable[..., Tensor]


@dataclass(frozen=True)
class Plan:
    """What to measure and how; everything here stands beside the figures.

    `num` generated pictures for distances (50,000 in papers) from `num_real` real ones (None: all), `num_kept` of
    them for KID, precision and recall, `num_geometry` for EQ-T and path length.
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
            raise InputError(f"no metric {', '.join(unknown) or 'named'}", hint=f"choose from {', '.join(METRICS)}")
        if self.num < 2 or self.batch < 1 or (self.num_real is not None and self.num_real < 2):
            raise InputError(
                f"{self.num} pictures against {self.num_real or 'all'} in batches of {self.batch}",
                hint="measure on two pictures or more",
            )


@dataclass(frozen=True)
class Measured:
    """Figures by name, and what they were taken with: extractor, number of real pictures, dataset's fingerprint."""

    figures: dict[str, float]
    extractor: str | None = None
    num_real: int | None = None
    fingerprint: str | None = None


def measure(generator: Generator, data: str | None, plan: Plan, *, column: str | None = None) -> Measured:
    """The figures of a plan, the same in every process and for any number of processes.

    Args:
        data: address of the real pictures; may be None for 'eq-t' and 'path-length' alone.

    Raises:
        InputError, DataError, WeightsMissing
    """
    wanted = set(plan.metrics)
    figures: dict[str, float] = {}
    taken_with: tuple[str, int, str] | tuple[()] = ()
    device = generator.device
    if wanted & (_NEEDS_FRAMES | {"inf-fid"}):
        if data is None:
            raise InputError(f"{', '.join(plan.metrics)} compare with real pictures", hint="give --data")
        extractor = open_features(plan.features, device)
        catalogue = open_catalogue(data, column)
        size = generator.config.resolution
        real = reference(
            catalogue,
            size,
            extractor,
            device,
            num_kept=plan.num_kept,
            num_real=plan.num_real,
            fit=plan.fit,
            batch=plan.batch,
        )
        taken_with = extractor.name, real.num, catalogue.fingerprint
        if min(real.num, plan.num) <= extractor.num_features:
            log.warning(
                "%d real and %d generated pictures for %d features: distances are biased upwards; "
                "compare them only at these numbers",
                real.num,
                plan.num,
                extractor.num_features,
            )
        if wanted & _NEEDS_FRAMES:
            figures |= _compare(generator, sampling.frames_aligned, extractor, real, plan, wanted & _NEEDS_FRAMES)
        if "inf-fid" in wanted:
            found = _compare(generator, sampling.frames_anywhere, extractor, real, plan, {"fid"})
            figures["inf-fid"] = found["fid"]
    if "eq-t" in wanted:
        figures["eq-t"] = equivariance_db(generator, plan.num_geometry, seed=plan.seed)
    if "path-length" in wanted:
        figures["path-length"], figures["path-length-std"] = path_length(generator, plan.num_geometry, seed=plan.seed)
    return Measured(figures, *taken_with)


def _compare(
    generator: Generator, frames: Frames, extractor: Extractor, real: Reference, plan: Plan, wanted: set[str]
) -> dict[str, float]:
    """Distances of painted frames from the real ones. Chunk c of `batch` pictures is seeded by (seed, c)."""
    moments = Moments()
    kept: list[Tensor] = []
    num_chunks = -(-plan.num // plan.batch)
    num_kept = -(-min(plan.num_kept, plan.num) // plan.batch) if wanted - {"fid"} else 0
    for chunk in range(dist.rank(), num_chunks, dist.world()):
        size = min(plan.batch, plan.num - chunk * plan.batch)
        images = sampling.to_uint8(frames(generator, size, seed=plan.seed * 1_000_003 + chunk, psi=plan.psi))
        features = extractor(images)
        moments.add(features)
        if chunk < num_kept:
            kept.append(features.cpu())
    mean, covariance, _ = moments.finish(extractor.num_features, generator.device)
    figures = {}
    if "fid" in wanted:
        figures["fid"] = frechet(real.mean, real.covariance, mean, covariance)
    if wanted - {"fid"}:
        rows = torch.cat(kept) if kept else torch.zeros(0, extractor.num_features)
        fakes = _in_order(dist.gather_rows(rows.to(generator.device)).cpu())
        if "kid" in wanted:
            figures["kid"] = kernel(real.kept, fakes, seed=plan.seed)
        if "precision-recall" in wanted:
            figures["precision"], figures["recall"] = precision_recall(real.kept, fakes)
    return figures


def _in_order(rows: Tensor) -> Tensor:
    """Rows in an order that does not depend on which process made them."""
    return rows[rows.sum(dim=1).double().argsort(stable=True)]


def names(metrics: str | Sequence[str]) -> tuple[str, ...]:
    """`fid,kid` or a list as a tuple; `all` is everything."""
    parts = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    return METRICS if parts == ["all"] else tuple(part.strip() for part in parts if part.strip())


__all__ = [
    "METRICS",
    "NAMES",
    "Measured",
    "Moments",
    "Plan",
    "frechet",
    "kernel",
    "measure",
    "names",
    "precision_recall",
]
