"""What needs no features: how exactly the plane shifts, and how even the way from codes to pictures is."""

from __future__ import annotations

import math

import torch

from alis.errors import InputError
from alis.models import Generator
from alis.models.draws import draw, seeded
from alis.models.path_length import path_lengths

PEAK = 2.0  # pictures go from −1 to 1
MAX_DB = 200.0


@torch.no_grad()
def equivariance_db(generator: Generator, num: int, *, seed: int, batch: int = 16) -> float:
    """EQ-T: signal-to-noise ratio, in dB, of a frame at place s + k against the same frame shifted by k patches.

    Both are painted without noise and compared on the columns they share, over `num` frames, all k < g; at most
    200 dB (an exact copy). Source: arXiv 2106.12423, equation 6, with the shifts that this plane has: whole patches.

    Raises:
        InputError: a frame is one patch, so that frames at two places share no column.
    """
    config = generator.config
    if config.grid_size < 2:
        raise InputError(
            "eq-t compares the columns that two places share, and frames of one patch share none",
            hint="it says something of models with grid_size 2 or 4",
        )
    width, g = config.resolution // config.grid_size, config.grid_size
    total, count = 0.0, 0
    for start in range(0, num, batch):
        size = min(batch, num - start)
        with seeded(seed, start):
            z = torch.randn(3 * size, config.z_dim)
            place = torch.randint(0, config.max_shift - g + 2, [size])
        left, centre, right = generator.map(z.to(generator.device)).chunk(3)
        here = generator(left, centre, right, place.to(generator.device), noise="none").double()
        for k in range(1, g):
            there = generator(left, centre, right, (place + k).to(generator.device), noise="none").double()
            total += float((here[..., k * width :] - there[..., : -k * width]).square().sum())
            count += here[..., k * width :].numel()
    if total == 0:
        return MAX_DB
    return min(10 * math.log10(PEAK**2 / (total / count)), MAX_DB)


def path_length(generator: Generator, num: int, *, seed: int, batch: int = 16) -> tuple[float, float]:
    """(mean, standard deviation) of ‖Jᵀy‖ with respect to the centre codes, noise off."""
    found = []
    for start in range(0, num, batch):
        with seeded(seed, start):
            codes = draw(generator, min(batch, num - start), mixing=0.0, is_ramping=False)
            lengths = path_lengths(lambda c: generator.frames(c.ws, c.first_B, c.ranges), codes)
        found.append(lengths.detach())
    lengths = torch.cat(found)
    return float(lengths.mean()), float(lengths.std())
