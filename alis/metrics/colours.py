"""Pictures or a model's frames → means and covariances of their colours at every size, row by row.

Colours are area averages over squares: of whole frames (side 1), of quarters (side 2), down to pixels. Averages of
whole frames say how scenes differ, small squares how a scene varies within, and rows how sky differs from ground.
Letters: N pictures, C channels, R side of a frame, s squares along a side.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from alis.data import Catalogue, Fit, Loader, RankSlice, ReadOptions
from alis.errors import DataError
from alis.models import Generator, sampling
from alis.progress import Advance, no_progress

BATCH = 20
LARGEST_SIDE = 128
"""Of the squares along a side; pixels of larger pictures are averaged to this."""
_PIXELS = BATCH * 256**2  # of a batch, so that large pictures need no more memory


@dataclass(frozen=True)
class ColourStatistics:
    """Means [s, C] and covariances [s, C, C], float64, of every row of squares, by the number s of squares a side.

    Three channels, red, green and blue in [-1, 1]; or those of each of a model's blocks, lowest first, which add up to
    the picture. `num` is the number of pictures they come from.
    """

    means: dict[int, Tensor]
    covariances: dict[int, Tensor]
    num: int


class _Sums:
    """Running sums of colours and of their products."""

    def __init__(self, resolution: int) -> None:
        self._num = 0
        sides = [2**k for k in range(resolution.bit_length()) if 2**k <= min(resolution, LARGEST_SIDE)]
        self._first: dict[int, Tensor | float] = dict.fromkeys(sides, 0.0)
        self._second: dict[int, Tensor | float] = dict.fromkeys(sides, 0.0)

    def add(self, images_BCRR: Tensor) -> None:
        self._num += len(images_BCRR)
        x = images_BCRR.double()
        for side in sorted(self._first, reverse=True):
            x = functional.adaptive_avg_pool2d(x, side)
            rows = x.permute(2, 0, 3, 1).flatten(1, 2)
            self._first[side] = self._first[side] + rows.mean(dim=1) * len(x)
            self._second[side] = self._second[side] + rows.mT @ rows / side

    def finish(self) -> ColourStatistics:
        """Raises: DataError: fewer than two pictures."""
        if self._num < 2:
            raise DataError(
                f"{self._num} pictures are too few for colours", hint="give at least two, better a thousand"
            )
        means = {side: torch.as_tensor(total).cpu() / self._num for side, total in self._first.items()}
        products = {side: torch.as_tensor(total).cpu() / self._num for side, total in self._second.items()}
        return ColourStatistics(
            means,
            {side: products[side] - mean[:, :, None] * mean[:, None, :] for side, mean in means.items()},
            self._num,
        )


def of_pictures(
    catalogue: Catalogue, resolution: int, num: int, *, fit: Fit = "resize", advance: Advance = no_progress
) -> ColourStatistics:
    """The statistics of `num` random pictures (all, if there are fewer), resized as in training.

    Raises:
        DataError: fewer than two pictures could be read.
    """
    sums, stop, seen = _Sums(resolution), min(num, catalogue.num_images), 0
    share, reading = RankSlice(BATCH, BATCH, 0, 1), ReadOptions(fit=fit, threads=2, num_lanes=1)
    with Loader(catalogue, resolution, share, reading, stop=stop) as loader:
        for images_BHWC in loader:
            images_BHWC = images_BHWC[: stop - seen]
            sums.add(images_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1)
            seen += len(images_BHWC)
            advance(len(images_BHWC))
    return sums.finish()


def of_blocks(generator: Generator, num: int, *, seed: int, advance: Advance = no_progress) -> ColourStatistics:
    """The statistics of what each block adds to `num` frames at random columns of different planes, at ψ = 1.

    Raises:
        DataError: fewer than two frames.
    """
    apart, size = in_parts(generator), generator.config.resolution
    sums, batch = _Sums(size), max(min(BATCH, _PIXELS // size**2), 1)
    for start in range(0, num, batch):
        few = min(batch, num - start)
        sums.add(_clamped(sampling.frames_anywhere(apart, few, seed=seed * 1_000_003 + start)))
        advance(few)
    return sums.finish()


def _clamped(parts_BCHW: Tensor) -> Tensor:
    """The parts of pictures clamped to [-1, 1]: where a sum is beyond it, its parts are scaled alike."""
    parts = parts_BCHW.unflatten(1, (-1, 3))
    beyond = parts.sum(dim=1, keepdim=True).abs().clamp(min=1)
    return (parts / beyond).flatten(1, 2)


@torch.no_grad()
def in_parts(generator: Generator) -> Generator:
    """A copy whose pictures have three channels for each block, lowest first: what it adds to red, green and blue."""
    apart = copy.deepcopy(generator)
    blocks = apart.synthesis.blocks
    for number, block in enumerate(blocks):
        layer = block.torgb
        weight, bias = (
            layer.weight.new_zeros([3 * len(blocks), *layer.weight.shape[1:]]),
            layer.bias.new_zeros(3 * len(blocks)),
        )
        weight[3 * number : 3 * number + 3], bias[3 * number : 3 * number + 3] = layer.weight, layer.bias
        layer.weight, layer.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    return apart
