"""Adaptive discriminator augmentation: what both networks see is blitted, warped and recoloured with probability p.

Every operation is differentiable twice (R1 goes through it), so warping samples bilinearly by gathers instead of
`grid_sample`, which has no second derivative. Unlike the paper no low-pass filter is put around the warp; at the
mild scales drawn here (σ = 0.2 octaves) the aliasing is that of any bilinear resize.
Letters: B images, R side. Source: arXiv 2006.06676, sections 2 and 3, appendix B (transformations and their widths).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alis.training.recipe import AugmentSettings

EVERY = 4  # steps between two moves of p


class Augment:
    """images [B, 3, R, R] → augmented images, with the probability in `p` (a scalar tensor, shared and saved)."""

    def __init__(self, p: Tensor) -> None:
        self.p = p

    def __call__(self, images: Tensor) -> Tensor:
        return recolour(warp(images, self.p), self.p)

    def steer(self, real_signs: Tensor, sign_real: Tensor, batch: int, step: int, settings: AugmentSettings) -> None:
        """Every few steps move p by the sign of (mean sign of real logits − target).

        Args:
            real_signs: running [sum, count] since the last move; changed in place.
            sign_real: mean sign of this step's real logits over all processes.
        """
        if settings.kind != "ada":
            return
        real_signs += torch.stack([sign_real, torch.ones_like(sign_real)])
        if step % EVERY == 0:
            towards = torch.sign(real_signs[0] / real_signs[1] - settings.target)
            self.p.add_(towards * (batch * EVERY / (settings.speed_kimg * 1000))).clamp_(0, 1)
            real_signs.zero_()


def warp(images: Tensor, p: Tensor) -> Tensor:
    """Mirror, quarter turns and whole-pixel shifts, then scale, turn, stretch and shift by fractions."""
    num, _, size, _ = images.shape
    device = images.device
    one = torch.eye(3, device=device).expand(num, 3, 3)

    def maybe(matrix: Tensor, chance: Tensor = p) -> Tensor:
        is_on = torch.rand([num, 1, 1], device=device) < chance
        return torch.where(is_on, matrix, one)

    def normal(width: float) -> Tensor:
        return torch.randn(num, device=device) * width

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(num, device=device) * (high - low) + low

    flip = torch.where(torch.rand(num, device=device) < 0.5, -1.0, 1.0)
    shift_x, shift_y = (torch.round(uniform(-0.125, 0.125) * size) * 2 / size for _ in range(2))
    quarter = torch.randint(0, 4, [num], device=device) * (math.pi / 2)
    total = maybe(_scale(flip, torch.ones_like(flip))) @ maybe(_turn(quarter)) @ maybe(_shift(shift_x, shift_y))
    scale, stretch = torch.exp2(normal(0.2)), torch.exp2(normal(0.2))
    p_turn = 1 - torch.sqrt(1 - p)  # two turns, before and after the stretch, happen with p together
    total = total @ maybe(_scale(scale, scale)) @ maybe(_turn(uniform(-math.pi, math.pi)), p_turn)
    total = total @ maybe(_scale(stretch, 1 / stretch)) @ maybe(_turn(uniform(-math.pi, math.pi)), p_turn)
    total = total @ maybe(_shift(2 * normal(0.125), 2 * normal(0.125)))
    return sample(images, total)


def sample(images: Tensor, matrix_B33: Tensor) -> Tensor:
    """Pixel (x, y) of the result is the image at matrix · (x, y, 1), centre 0, borders at ±1, bilinear, reflected."""
    _, channels, size, _ = images.shape
    axis = (torch.arange(size, device=images.device, dtype=matrix_B33.dtype) * 2 + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = matrix_B33 @ torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()])
    column, row = ((places[:, k] + 1) * (size / 2) - 0.5 for k in range(2))
    column0, row0 = column.floor(), row.floor()
    flat = images.flatten(2)
    result = torch.zeros_like(flat)
    for at_row, row_share in ((row0, row0 + 1 - row), (row0 + 1, row - row0)):
        for at_column, column_share in ((column0, column0 + 1 - column), (column0 + 1, column - column0)):
            index = _reflect(at_row, size) * size + _reflect(at_column, size)
            taken = flat.gather(2, index[:, None].expand(-1, channels, -1))
            result = result + taken * (row_share * column_share)[:, None].to(flat.dtype)
    return result.view_as(images)


def recolour(images: Tensor, p: Tensor) -> Tensor:
    """Brightness, contrast, luma flip, hue and saturation as one affine map of the colours of each image."""
    num, device = len(images), images.device
    one = torch.eye(4, device=device).expand(num, 4, 4)
    grey = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device) / math.sqrt(3)
    along = torch.outer(grey, grey)

    def maybe(matrix: Tensor) -> Tensor:
        return torch.where(torch.rand([num, 1, 1], device=device) < p, matrix, one)

    def normal(width: float) -> Tensor:
        return torch.randn([num, 1, 1], device=device) * width

    unit = torch.eye(4, device=device)
    fourth = torch.outer(unit[3], unit[3])
    brighter = unit + normal(0.2) * torch.outer(unit[:3].sum(0), unit[3])
    contrast = (unit - fourth) * torch.exp2(normal(0.5)) + fourth
    flip = unit - 2 * along * (torch.rand([num, 1, 1], device=device) < 0.5)
    angle = (torch.rand([num, 1, 1], device=device) * 2 - 1) * math.pi
    cross = torch.zeros(4, 4, device=device)
    a = 1 / math.sqrt(3)
    cross[:3, :3] = torch.tensor([[0, -a, a], [a, 0, -a], [-a, a, 0]], device=device)
    hue = along + fourth + torch.cos(angle) * (unit - along - fourth) + torch.sin(angle) * cross
    saturation = along + fourth + torch.exp2(normal(1.0)) * (unit - along - fourth)
    total = maybe(saturation) @ maybe(hue) @ maybe(flip) @ maybe(contrast) @ maybe(brighter)
    colours = total[:, :3, :3].to(images.dtype) @ images.flatten(2) + total[:, :3, 3:].to(images.dtype)
    return colours.view_as(images)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Whole numbers beyond the border mirrored at it, as often as needed: … 1 0 | 0 1 2 … n−1 | n−1 n−2 …"""
    folded = index.long() % (2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def _scale(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([x, zero, zero, zero, y, zero, zero, zero, one], dim=1).view(-1, 3, 3)


def _turn(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).view(-1, 3, 3)


def _shift(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([one, zero, x, zero, one, y, zero, zero, one], dim=1).view(-1, 3, 3)
