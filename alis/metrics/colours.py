"""Pictures or a model's frames → mean and covariance of their pixels' colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alis.data import Catalogue, Fit, Loader, RankSlice, ReadOptions
from alis.errors import DataError
from alis.metrics.moments import Moments
from alis.models import Generator, sampling
from alis.progress import Advance, no_progress

BATCH = 20
MOST_PIXELS = 1024
"""Number of pixels per picture that are used, on a regular grid."""


@dataclass(frozen=True)
class ColourStatistics:
    """Mean [3] and covariance [3, 3] of red, green and blue in [-1, 1], and the number of pictures they come from."""

    mean: np.ndarray
    covariance: np.ndarray
    num: int


def of_pictures(
    catalogue: Catalogue, resolution: int, num: int, *, fit: Fit = "resize", advance: Advance = no_progress
) -> ColourStatistics:
    """The statistics of `num` random pictures (all, if there are fewer), resized as in training.

    Raises:
        DataError: fewer than two pictures could be read.
    """
    moments, stop, seen = Moments(), min(num, catalogue.num_images), 0
    share, reading = RankSlice(BATCH, BATCH, 0, 1), ReadOptions(fit=fit, threads=2, num_lanes=1)
    with Loader(catalogue, resolution, share, reading, stop=stop) as loader:
        for images_BHWC in loader:
            images_BHWC = images_BHWC[: stop - seen]
            moments.add(_pixels(images_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1))
            seen += len(images_BHWC)
            advance(len(images_BHWC))
    return _statistics(moments, seen)


def of_model(generator: Generator, num: int, *, seed: int, advance: Advance = no_progress) -> ColourStatistics:
    """The statistics of `num` frames at random columns of different planes, without truncation, clamped to [-1, 1]."""
    moments = Moments()
    for start in range(0, num, BATCH):
        few = min(BATCH, num - start)
        frames = sampling.frames_anywhere(generator, few, seed=seed * 1_000_003 + start)
        moments.add(_pixels(frames.float().clamp(-1, 1)))
        advance(few)
    return _statistics(moments, num)


def _pixels(images_B3HW: Tensor) -> Tensor:
    """Pixels [N, 3] on a regular grid of each picture."""
    step = max(round((images_B3HW[0, 0].numel() / MOST_PIXELS) ** 0.5), 1)
    return images_B3HW[:, :, step // 2 :: step, step // 2 :: step].permute(0, 2, 3, 1).reshape(-1, 3)


def _statistics(moments: Moments, num: int) -> ColourStatistics:
    if num < 2:
        raise DataError(f"{num} pictures are too few for colours", hint="give at least two, better a thousand")
    mean, covariance, _ = moments.finish(3, torch.device("cpu"))
    return ColourStatistics(mean, covariance, num)
