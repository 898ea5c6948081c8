"""Metrics that need no features: translation equivariance (EQ-T) and path length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from alis.errors import InputError
from alis.models import Generator
from alis.models.frame_codes import sample_frame_codes, seeded
from alis.models.path_length import path_lengths
from alis.plane.ranges import Ranges
from alis.progress import Advance, no_progress

PEAK = 2.0  # range of the pictures, −1 … 1
MAX_DB = 200.0


@torch.no_grad()
def equivariance_db(
    generator: Generator, num: int, *, seed: int, batch: int = 16, advance: Advance = no_progress
) -> float:
    """EQ-T: peak signal-to-noise ratio, in dB, of a frame at position s + k against the frame at s, shifted by k.

    Positions are patches or, with plane padding, columns of the 4×4 block (R/4 pixels). Frames are painted without
    noise and compared on the columns that they share, over `num` frames and all k < g (or k < 4); at most 200 dB (an
    exact copy). Local latents belong to the plane, like waves, and shift with it. Source: arXiv 2106.12423, equation 6,
    with the shifts that are possible here.

    Raises:
        InputError: frames are single patches, so that two positions share no column.
    """
    config = generator.config
    num_places = 4 if config.padding == "plane" else config.grid_size
    if num_places < 2:
        raise InputError(
            "eq-t compares the columns that two positions share, and frames of one patch share none",
            hint="measure it on models with grid_size 2 or 4",
        )
    width = config.resolution // num_places
    total, count = 0.0, 0
    for start in range(0, num, batch):
        size = min(batch, num - start)
        with seeded(seed, start):
            z = torch.randn(3 * size, config.z_dim)
            place = torch.randint(0, config.max_shift - config.grid_size + 2, [size])
        ws = generator.map(z.to(generator.device)).chunk(3)
        place = place.to(generator.device)
        here = _shifted(generator, ws, place, 0)
        for k in range(1, num_places):
            there = _shifted(generator, ws, place, k)
            total += float((here[..., k * width :] - there[..., : -k * width]).square().sum())
            count += here[..., k * width :].numel()
        advance(size)
    if total == 0:
        return MAX_DB
    return min(10 * math.log10(PEAK**2 / (total / count)), MAX_DB)


def _shifted(generator: Generator, ws: Sequence[Tensor], place: Tensor, k: int) -> Tensor:
    """Frames k positions right of patch borders, float64 [B, 3, R, R]."""
    config = generator.config
    if config.padding != "plane":
        return generator(*ws, place + k, noise="none").double()
    ws_BKLS = torch.stack(list(ws), dim=1)[:, :, None].expand(-1, -1, config.num_ws, -1)
    column_B = place * (4 // config.grid_size) + k
    return generator.frames(ws_BKLS, torch.zeros_like(place), Ranges(column_B, config.resolution)).double()


def path_length(
    generator: Generator, num: int, *, seed: int, batch: int = 16, advance: Advance = no_progress
) -> tuple[float, float]:
    """Mean and standard deviation of ‖Jᵀy‖ with respect to the centre codes, without noise."""
    found = []
    for start in range(0, num, batch):
        with seeded(seed, start):
            codes = sample_frame_codes(generator, min(batch, num - start), mixing=0.0, is_ramping=False)
            lengths = path_lengths(lambda c: generator.frames(c.ws, c.first_B, c.ranges), codes)
        found.append(lengths.detach())
        advance(len(lengths))
    lengths = torch.cat(found)
    return float(lengths.mean()), float(lengths.std())
