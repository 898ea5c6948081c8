"""Generator and dataset → the same generator with the dataset's colours: one linear map, folded into its weights.

A discriminator on a frozen network's features teaches shapes, but leaves mean and covariance of the colours slightly
wrong (docs/log.md). Of all maps that give painted pixels the mean and covariance of real ones, this one changes colours
least: Σ_p^(-1/2) (Σ_p^(1/2) Σ_r Σ_p^(1/2))^(1/2) Σ_p^(-1/2). A picture is the sum of its blocks' ToRGB layers, which
are linear in their weights, so the map is folded into them, and painting costs nothing extra.
Source: Pitié and Kokaram, The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer,
CVMP 2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from alis.data import Catalogue, Fit
from alis.errors import InputError
from alis.metrics import colours
from alis.metrics.colours import ColourStatistics
from alis.models import Generator
from alis.progress import counter
from lhq.progress import OnProgress, silent

LEVELS = 127.5
"""Levels of 8 bits in one unit of a picture in [-1, 1]."""
MAX_STRETCH = 2.0
"""A map that scales any direction in colour space by more than this, or by less than its inverse, is refused."""


@dataclass(frozen=True)
class ColourMatch:
    """Mean colours of painted minus real pixels, before and after: red, green and blue, in 8-bit levels.

    `after` is measured on other frames than `before`. `stretch` is the map's smallest and largest factor.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    stretch: tuple[float, float]
    num_real: int
    num_painted: int


def match_colours(
    generator: Generator,
    catalogue: Catalogue,
    *,
    num: int = 2000,
    fit: Fit = "resize",
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> ColourMatch:
    """Match a generator's colours, in place, measured on `num` frames and `num` real pictures (all, if fewer).

    Raises:
        InputError, DataError: fewer than two pictures, or colours too different for a model trained on them.
    """
    if num < 2:
        raise InputError(f"colours of {num} frames", hint="use at least two, better a thousand")
    side, num_real = generator.config.resolution, min(num, catalogue.num_images)
    real = colours.of_pictures(
        catalogue, side, num_real, fit=fit, advance=counter(on_progress, "real pictures", num_real)
    )
    before = colours.of_model(generator, num, seed=seed, advance=counter(on_progress, "frames", num))
    matrix, shift = linear_map(before, real)
    factors = np.linalg.eigvalsh(matrix)
    if not 1 / MAX_STRETCH <= factors[0] <= factors[-1] <= MAX_STRETCH:
        raise InputError(
            f"the pictures' colours are too far from the model's (factors {factors[0]:.2f} … {factors[-1]:.2f})",
            hint="give the pictures that the model was trained on",
        )
    fold(generator, matrix, shift)
    after = colours.of_model(generator, num, seed=seed + 1, advance=counter(on_progress, "frames again", num))
    return ColourMatch(
        _off(before, real), _off(after, real), (float(factors[0]), float(factors[-1])), real.num, before.num
    )


def linear_map(painted: ColourStatistics, real: ColourStatistics) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric matrix [3, 3] and the shift [3] that give painted colours the mean and covariance of real ones.

    Raises:
        InputError: the covariance of painted colours is singular (a grey or untrained model), so there is no map.
    """
    values, vectors = np.linalg.eigh(painted.covariance)
    if values[0] <= 1e-6 * max(values[-1], 1e-12):
        raise InputError("the model paints no colours to match", hint="train it further, or leave its colours alone")
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    values, vectors = np.linalg.eigh(root @ real.covariance @ root)
    matrix = inverse @ (vectors * np.sqrt(values.clip(min=0))) @ vectors.T @ inverse
    return matrix, real.mean - matrix @ painted.mean


@torch.no_grad()
def fold(generator: Generator, matrix: np.ndarray, shift: np.ndarray) -> None:
    """Make colours `matrix · colours + shift` part of the ToRGB layers' weights."""
    last = generator.config.resolutions[-1]
    for resolution in generator.config.resolutions:
        layer = generator.synthesis.get_submodule(f"b{resolution}.torgb")
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        by = torch.as_tensor(matrix, dtype=torch.float64, device=weight.device)
        weight.copy_(torch.einsum("oc,cikl->oikl", by, weight.double()))
        bias.copy_(by @ bias.double())
        if resolution == last:
            bias.add_(torch.as_tensor(shift, dtype=bias.dtype, device=bias.device))


def _off(painted: ColourStatistics, real: ColourStatistics) -> tuple[float, ...]:
    return tuple(float(value) for value in LEVELS * (painted.mean - real.mean))
