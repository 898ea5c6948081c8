"""Generator and dataset → the same generator with the dataset's colours: a linear map a block, part of its weights.

A discriminator on a frozen network's features teaches shapes, but leaves colours slightly wrong: their means from sky
to ground, how scenes differ, how a scene varies within (docs/log.md). A picture is the sum of what its blocks add by
their ToRGB layers, so its means and covariances at every size follow from those of the parts, and the maps that bring
them to those of real pictures are found without painting again: by L-BFGS, on the squared 2-Wasserstein distance of
Gaussians, averaged over sizes and rows, plus PENALTY times the squared distance of the maps from none. ToRGB layers are
linear in their weights, so the maps are folded into them, and painting costs nothing extra.
Source of the distance: Dowson and Landau, The Fréchet distance between multivariate normal distributions, 1982.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alis.data import Catalogue, Fit
from alis.errors import InputError
from alis.metrics import colours
from alis.metrics.colours import ColourStatistics
from alis.models import Generator
from alis.progress import counter
from lhq.progress import OnProgress, silent

LEVELS = 127.5
"""Levels of 8 bits in one unit of a picture in [-1, 1]."""
PENALTY = 4e-4
"""Ten times less gives maps far from none, and pictures no nearer to real ones in the eyes of others (docs/log.md)."""
MAX_STRETCH = 2.0
"""A map that scales any direction in colour space by more than this, or by less than its inverse, is refused."""


@dataclass(frozen=True)
class ColourMatch:
    """Colours of painted and real pictures, in 8-bit levels, before and after; after is measured on other frames.

    `before` and `after` are mean red, green and blue of painted minus real pixels, `distance` the root of the squared
    distance that is matched. `stretch` is the maps' smallest and largest factor.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    distance: tuple[float, float]
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
    painted = colours.of_blocks(generator, num, seed=seed, advance=counter(on_progress, "frames", num))
    maps, shift = find_maps(painted, real)
    factors = torch.linalg.svdvals(maps)
    least, most = float(factors.min()), float(factors.max())
    if not 1 / MAX_STRETCH <= least <= most <= MAX_STRETCH:
        raise InputError(
            f"the pictures' colours are too far from the model's (factors {least:.2f} … {most:.2f})",
            hint="give the pictures that the model was trained on",
        )
    fold(generator, maps, shift)
    others = colours.of_blocks(generator, num, seed=seed + 1, advance=counter(on_progress, "frames again", num))
    none = torch.eye(3, dtype=torch.float64).expand(len(maps), 3, 3), torch.zeros(3, dtype=torch.float64)
    before, after = (LEVELS * math.sqrt(distance(them, real, *none)) for them in (painted, others))
    return ColourMatch(_off(painted, real), _off(others, real), (before, after), (least, most), real.num, painted.num)


def find_maps(painted: ColourStatistics, real: ColourStatistics) -> tuple[Tensor, Tensor]:
    """The matrices [blocks, 3, 3] and the shift [3] that bring the colours of blocks' sums closest to real ones.

    Raises:
        InputError: the covariance of painted colours is singular (a grey or untrained model).
    """
    num_blocks = painted.means[1].shape[1] // 3
    none = torch.eye(3, dtype=torch.float64).expand(num_blocks, 3, 3)
    matrix = torch.cat(list(none), dim=1)
    values = torch.linalg.eigvalsh(matrix @ painted.covariances[max(painted.covariances)].mean(dim=0) @ matrix.T)
    if values[0] <= 1e-6 * max(float(values[-1]), 1e-12):
        raise InputError("the model paints no colours to match", hint="train it further, or leave its colours alone")
    change = torch.zeros(num_blocks, 3, 3, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [change, shift], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = distance(painted, real, none + change, shift) + PENALTY * change.square().sum()
        value.backward()
        return value

    search.step(loss)
    return (none + change).detach(), shift.detach()


def distance(painted: ColourStatistics, real: ColourStatistics, maps: Tensor, shift: Tensor) -> Tensor:
    """The squared distance of mapped colours to real ones, of Gaussians, averaged over sizes and rows."""
    matrix = torch.cat(list(maps), dim=1)
    found = []
    for side in real.means:
        mean = painted.means[side] @ matrix.T + shift
        covariance = matrix @ painted.covariances[side] @ matrix.T
        root = _root(real.covariances[side])
        # Of the product's root only the trace is needed; eigenvalues at zero have no slope.
        shared = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=1e-14).sqrt().sum(dim=1)
        spread = _trace(covariance) + _trace(real.covariances[side]) - 2 * shared
        found.append(((mean - real.means[side]).square().sum(dim=1) + spread).mean())
    return torch.stack(found).mean()


@torch.no_grad()
def fold(generator: Generator, maps: Tensor, shift: Tensor) -> None:
    """Make `maps[block] · what the block adds`, and the shift once, part of the ToRGB layers' weights."""
    for block, matrix in zip(generator.synthesis.blocks, maps, strict=True):
        weight, bias = block.torgb.weight, block.torgb.bias
        by = matrix.to(weight.device, torch.float64)
        weight.copy_(torch.einsum("oc,cikl->oikl", by, weight.double()))
        bias.copy_(by @ bias.double())
    bias.add_(shift.to(bias))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors.mT


def _trace(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=1, dim2=2).sum(dim=1)


def _off(painted: ColourStatistics, real: ColourStatistics) -> tuple[float, ...]:
    mean = painted.means[1][0].view(-1, 3).sum(dim=0) - real.means[1][0]
    return tuple(float(value) for value in LEVELS * mean)
