"""A dataset's features, computed once and kept by its fingerprint."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alis import dist
from alis.data import Catalogue, Fit, Loader, Reading, Share
from alis.features.extractors import Extractor
from alis.metrics.moments import Moments

log = logging.getLogger("alis")


@dataclass(frozen=True)
class Reference:
    """Moments of the real pictures' features, and up to `num_kept` of the features themselves [N, F] float32."""

    mean: np.ndarray
    covariance: np.ndarray
    num: int
    kept: Tensor


def reference(
    catalogue: Catalogue,
    resolution: int,
    extractor: Extractor,
    device: torch.device,
    *,
    num_kept: int,
    num_real: int | None = None,
    fit: Fit = "resize",
    batch: int = 32,
    threads: int = 2,
) -> Reference:
    """Features of all pictures (or of `num_real` at random), never mirrored; computed once.

    They are kept on each host in $ALIS_CACHE, else ~/.cache/alis, by the dataset's fingerprint and extractor's name.
    Process r takes every world-th batch. The kept ones are a random choice, the same every time.
    """
    key = f"{catalogue.fingerprint} {catalogue.column} {resolution} {fit} {extractor.name} {num_kept} {num_real}"
    root = Path(os.environ.get("ALIS_CACHE", Path.home() / ".cache" / "alis"))
    path = root / "reference" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    # Hosts may have caches of their own: who has it waits for nobody else's sums, so all have it or all compute.
    if not dist.any_true(not path.is_file(), device):
        with np.load(path) as stored:
            return Reference(stored["mean"], stored["covariance"], int(stored["num"]), torch.from_numpy(stored["kept"]))
    moments = Moments()
    kept: list[Tensor] = []
    num, world = min(num_real or catalogue.num_images, catalogue.num_images), dist.world()
    share = -(-min(num_kept, num) // world)
    with Loader(
        catalogue,
        resolution,
        Share(batch * world, batch, dist.rank(), world),
        Reading(fit=fit, threads=threads, num_lanes=1),
        stop=num,
    ) as loader:
        for images in loader:
            features = extractor(images.permute(0, 3, 1, 2).to(device))
            moments.add(features)
            held = sum(len(part) for part in kept)
            if held < share:
                kept.append(features[: share - held].cpu())
    rows = torch.cat(kept) if kept else torch.zeros(0, extractor.num_features)
    rows = dist.gather_rows(rows.to(device)).cpu()
    found = Reference(*moments.finish(extractor.num_features, device), rows)
    if dist.is_first_of_host():
        _keep(found, path)
    return found


def _keep(found: Reference, path: Path) -> None:
    part = path.with_suffix(f".{dist.rank()}-{os.getpid()}.part.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, mean=found.mean, covariance=found.covariance, num=found.num, kept=found.kept.numpy())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        log.warning("%s: the reference can't be kept (%s)", path, error)
