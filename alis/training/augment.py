"""Differentiable augmentation of the discriminators' input: geometric and colour transforms, each with probability p.

It is used in two ways: for the residual discriminator, ADA adapts p; the projected one always gets light transforms.
Every operation can be differentiated twice, which R1 needs, so the warp samples bilinearly by gathers instead of
`grid_sample`, which has no second derivative. Unlike the paper, there is no low-pass filter around the warp; at the
mild scales drawn here (σ = 0.2 octaves), the aliasing is that of any bilinear resize.
Letters: B images, R side. Source: arXiv 2006.06676, sections 2 and 3, appendix B (transforms and their strengths);
arXiv 2006.10738 (both networks must see augmented images).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from alis.training.recipe import AugmentSettings, AugmentTransforms

UPDATE_EVERY = 4  # steps between two updates of p
ALL: frozenset[str] = frozenset(AugmentTransforms.model_fields)


@dataclass(frozen=True)
class Strengths:
    """Strengths of transforms: shift as a share of the side, brightness in the range −1 … 1, the others in octaves."""

    shift: float = 0.125
    brightness: float = 0.2
    contrast: float = 0.5
    saturation: float = 1.0


LIGHT = Strengths(shift=0.0625, brightness=0.15, contrast=0.3, saturation=0.3)
LIGHT_CHANGES = frozenset({"shifts", "brightness", "contrast", "saturation"})


class Augment:
    """Images [B, 3, R, R] → augmented images; `p` is a scalar tensor that the training state shares and saves."""

    def __init__(self, p: Tensor, changes: frozenset[str] = ALL, strengths: Strengths = Strengths()) -> None:
        self.p, self.changes, self.strengths = p, changes, strengths

    def __call__(self, images: Tensor) -> Tensor:
        return recolour(warp(images, self.p, self.changes, self.strengths), self.p, self.changes, self.strengths)

    def steer(self, real_signs: Tensor, sign_real: Tensor, batch: int, step: int, settings: AugmentSettings) -> None:
        """ADA: every few steps, move p by the sign of (mean sign of real logits − target).

        Args:
            real_signs: [sum, count] since the last update of p; changed in place.
            sign_real: mean sign of this step's real logits, over all processes.
        """
        if settings.kind != "ada":
            return
        real_signs += torch.stack([sign_real, torch.ones_like(sign_real)])
        if step % UPDATE_EVERY == 0:
            towards = torch.sign(real_signs[0] / real_signs[1] - settings.target)
            self.p.add_(towards * (batch * UPDATE_EVERY / (settings.speed_kimg * 1000))).clamp_(0, 1)
            real_signs.zero_()


def chosen(changes: AugmentTransforms) -> frozenset[str]:
    """The names of the transforms that are on."""
    return frozenset(name for name in ALL if getattr(changes, name))


class _RandomMatrices:
    """A product of random matrices for each image; each factor is applied with a probability, else left out.

    A transform that is off draws no random numbers.
    """

    def __init__(self, num: int, side: int, device: torch.device) -> None:
        self.num, self.device = num, device
        self.total = torch.eye(side, device=device).expand(num, side, side)
        self.one = self.total

    def then(self, matrix_BNN: Tensor, p: Tensor) -> None:
        """Multiply the product by `matrix` from the right, with probability p."""
        is_on = torch.rand([self.num, 1, 1], device=self.device) < p
        self.total = self.total @ torch.where(is_on, matrix_BNN, self.one)

    def normal(self, std: float) -> Tensor:
        """Normal random numbers [B]."""
        return torch.randn(self.num, device=self.device) * std

    def uniform(self, low: float, high: float) -> Tensor:
        """Uniform random numbers [B]."""
        return torch.rand(self.num, device=self.device) * (high - low) + low


def warp(images: Tensor, p: Tensor, changes: frozenset[str] = ALL, strengths: Strengths = Strengths()) -> Tensor:
    """Mirror, rotate by quarter turns and shift by whole pixels; then scale, rotate, stretch and shift by fractions."""
    num, _, size, _ = images.shape
    chance = _RandomMatrices(num, 3, images.device)
    if "mirror" in changes:
        flip = torch.where(chance.uniform(0, 1) < 0.5, -1.0, 1.0)
        chance.then(_scale(flip, torch.ones_like(flip)), p)
    if "quarter_turns" in changes:
        chance.then(_turn(torch.randint(0, 4, [num], device=images.device) * (math.pi / 2)), p)
    if "shifts" in changes:
        far = strengths.shift
        shift_x, shift_y = (torch.round(chance.uniform(-far, far) * size) * 2 / size for _ in range(2))
        chance.then(_shift(shift_x, shift_y), p)
    p_turn = 1 - torch.sqrt(1 - p)  # of two rotations, before and after the stretch: at least one happens with p
    if "scale" in changes:
        scale = torch.exp2(chance.normal(0.2))
        chance.then(_scale(scale, scale), p)
    if "turns" in changes:
        chance.then(_turn(chance.uniform(-math.pi, math.pi)), p_turn)
    if "stretch" in changes:
        stretch = torch.exp2(chance.normal(0.2))
        chance.then(_scale(stretch, 1 / stretch), p)
    if "turns" in changes:
        chance.then(_turn(chance.uniform(-math.pi, math.pi)), p_turn)
    if "fractions" in changes:
        chance.then(_shift(2 * chance.normal(0.125), 2 * chance.normal(0.125)), p)
    return images if chance.total is chance.one else sample(images, chance.total)


def sample(images: Tensor, matrix_B33: Tensor) -> Tensor:
    """Warp images: pixel (x, y) of the result is the image at matrix · (x, y, 1), bilinear, reflected at the borders.

    Coordinates are 0 at the centre and ±1 at the borders.
    """
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


def recolour(images: Tensor, p: Tensor, changes: frozenset[str] = ALL, strengths: Strengths = Strengths()) -> Tensor:
    """Change brightness, contrast, luma sign, hue and saturation by one affine map of each image's colours."""
    num, device = len(images), images.device
    chance = _RandomMatrices(num, 4, device)
    unit = torch.eye(4, device=device)
    # Built from tensors on the device: copying a list from the host would synchronise with the device.
    up, fourth = torch.outer(1 - unit[3], unit[3]), torch.outer(unit[3], unit[3])
    along = torch.outer(1 - unit[3], 1 - unit[3]) / 3
    # Colours are column vectors, so the transform that acts first is the rightmost factor and is drawn last.
    if "saturation" in changes:
        saturation = torch.exp2(chance.normal(strengths.saturation))[:, None, None]
        chance.then(along + fourth + saturation * (unit - along - fourth), p)
    if "hue" in changes:
        angle = chance.uniform(-math.pi, math.pi)[:, None, None]
        axes = torch.eye(3, device=device)
        cross = functional.pad(axes.roll(1, 0) - axes.roll(-1, 0), (0, 1, 0, 1)) / math.sqrt(3)  # with the grey axis
        chance.then(along + fourth + torch.cos(angle) * (unit - along - fourth) + torch.sin(angle) * cross, p)
    if "luma_flip" in changes:
        chance.then(unit - 2 * along * (chance.uniform(0, 1) < 0.5)[:, None, None], p)
    if "contrast" in changes:
        chance.then((unit - fourth) * torch.exp2(chance.normal(strengths.contrast))[:, None, None] + fourth, p)
    if "brightness" in changes:
        chance.then(unit + chance.normal(strengths.brightness)[:, None, None] * up, p)
    if chance.total is chance.one:
        return images
    total = chance.total.to(images.dtype)
    colours = total[:, :3, :3] @ images.flatten(2) + total[:, :3, 3:]
    return colours.view_as(images)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices with those outside mirrored at the borders, as often as needed: … 1 0 | 0 1 2 … n−1 | n−1 n−2 …"""
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
