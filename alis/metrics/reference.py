"""Reference statistics: a dataset's features, computed once and cached by the content of its files."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alis import dist
from alis.data import Catalogue, Fit, Loader, RankSlice, ReadOptions, cache_folder, content_fingerprint
from alis.features.extractors import Extractor
from alis.metrics.moments import Moments
from alis.progress import Advance, no_progress

log = logging.getLogger("alis")


@dataclass(frozen=True)
class ReferenceStatistics:
    """Mean and covariance of pictures' features, and a sample of the features.

    Args:
        mean, covariance: [F] and [F, F], float64.
        num: number of pictures.
        kept: sample of features [N, F], float32.
        num_left_out: number of pictures that could not be read.
        content: fingerprint of the dataset's files.
    """

    mean: np.ndarray
    covariance: np.ndarray
    num: int
    kept: Tensor
    num_left_out: int = 0
    content: str = ""


@dataclass(frozen=True)
class SampleOptions:
    """Which real pictures to use, and how to read them.

    Args:
        num_kept: of how many to keep the features.
        num: number of pictures, chosen at random; None: all.
        fit: how pictures of other sizes are resized.
        batch: pictures per batch.
        threads: decoding threads.
    """

    num_kept: int
    num: int | None = None
    fit: Fit = "resize"
    batch: int = 32
    threads: int = 2


def reference_statistics(
    catalogue: Catalogue,
    resolution: int,
    extractor: Extractor,
    device: torch.device,
    sample: SampleOptions,
    advance: Advance = no_progress,
) -> ReferenceStatistics:
    """Statistics of the features of real pictures, never mirrored; computed once, then cached.

    Each host caches them in $ALIS_CACHE (default ~/.cache/alis), by the content of the dataset's files and the
    extractor's name. Process r reads every world-th batch. The kept features are a random sample, the same every time.

    Raises:
        DataError: too much of the dataset can't be read.
    """
    # Process 0 hashes the files for all: other hosts may see other inodes and times.
    content = dist.broadcast_object(dist.run_on_all(lambda: "" if dist.rank() else content_fingerprint(catalogue)))
    key = f"{content} {catalogue.column} {resolution} {sample.fit} {extractor.name} {sample.num_kept} {sample.num}"
    path = cache_folder() / "reference" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    # Hosts may have separate caches: unless all processes find the statistics, all must compute them.
    stored = _stored(path, key, content)
    if not dist.any_true(stored is None, device) and stored is not None:
        return stored
    moments = Moments()
    kept: list[Tensor] = []
    num, world = min(sample.num or catalogue.num_images, catalogue.num_images), dist.world_size()
    share = -(-min(sample.num_kept, num) // world)

    def look() -> int:
        share_of_all = RankSlice(sample.batch * world, sample.batch, dist.rank(), world)
        reading = ReadOptions(fit=sample.fit, threads=sample.threads, num_lanes=1)
        with Loader(catalogue, resolution, share_of_all, reading, stop=num) as loader:
            for images in loader:
                features = extractor(images.permute(0, 3, 1, 2).to(device))
                moments.add(features)
                held = sum(len(part) for part in kept)
                if held < share:
                    kept.append(features[: share - held].cpu())
                advance(len(images))
            return loader.num_bad

    num_left_out = sum(dist.all_gather_objects(dist.run_on_all(look)))
    if num_left_out:
        log.warning("%d of %d real pictures can't be read and are replaced by their neighbours", num_left_out, num)
    rows = torch.cat(kept) if kept else torch.zeros(0, extractor.num_features)
    rows = dist.gather_rows(rows.to(device)).cpu()
    found = ReferenceStatistics(*moments.finish(extractor.num_features, device), rows, num_left_out, content)
    if dist.is_first_of_host():
        _keep(found, path, key)
    return found


def _stored(path: Path, key: str, content: str) -> ReferenceStatistics | None:
    """The statistics cached in a file, or None if there is none or it is damaged or another's."""
    try:
        with np.load(path) as kept:
            if "key" in kept and str(kept["key"]) != key:
                raise ValueError("it is of other pictures, or of another extractor")
            num, num_left_out = int(kept["num"]), int(kept["num_left_out"]) if "num_left_out" in kept else 0
            rows = torch.from_numpy(kept["kept"])
            return ReferenceStatistics(kept["mean"], kept["covariance"], num, rows, num_left_out, content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        log.warning("%s: damaged, computed again (%s)", path, error)
        return None


def _keep(found: ReferenceStatistics, path: Path, key: str) -> None:
    part = path.with_suffix(f".{dist.rank()}-{os.getpid()}.part.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            part,
            key=key,
            mean=found.mean,
            covariance=found.covariance,
            num=found.num,
            num_left_out=found.num_left_out,
            kept=found.kept.numpy(),
        )
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        log.warning("%s: the reference statistics can't be cached (%s)", path, error)
