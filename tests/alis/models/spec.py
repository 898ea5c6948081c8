"""The generator straight from its formulas, in float64, on whole frames: slow, plain, and shares no code with ours.

Written from the description of the method only (arXiv 2104.06954; arXiv 1912.04958): every layer cuts the frame into
patches and glues the results; coordinates are evaluated with sines; styles are spread over the whole window and cut.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from alis.config import ModelConfig


class Spec:
    """The function of one generator, from its weights by name."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor]) -> None:
        self.c, self.w = config, {name: value.double() for name, value in weights.items()}

    def styles(self, layer: str, w: Tensor, *, half: bool, gain: float = 1.0) -> Tensor:
        weight, bias = self.w[f"{layer}.affine.weight"], self.w[f"{layer}.affine.bias"]
        style = (w @ weight.T / math.sqrt(weight.shape[1]) + bias) * gain
        return style / style.abs().max(dim=1, keepdim=True).values if half else style

    def align(self, x: Tensor, styles: list[Tensor], shift: int) -> Tensor:
        width = x.shape[3]
        n = int(0.5 * self.c.w_coord_dist * width)
        c = torch.linspace(1 / (2 * n), 1 - 1 / (2 * n), n, dtype=torch.float64)
        left, centre, right = (style[:, :, None] for style in styles)
        window = torch.cat([(1 - c) * left + c * centre, (1 - c) * centre + c * right], dim=2)
        start = shift * (width // self.c.grid_size)
        return x * window[:, :, None, start : start + width]

    def waves(self, width: int, resolution: int, shift: int, batch: int) -> Tensor:
        n = int(0.5 * self.c.w_coord_dist * width)
        j = torch.arange(width, dtype=torch.float64)
        x = 2 * j / width - 1 + ((shift * (width // self.c.grid_size) - n) / n) * self.c.w_coord_dist + 1
        y = 1 - 2 * (j + 1) / width
        limits = {8: 32, 16: 32, 32: 64, 64: 128, 128: 128, 256: 64, 512: 64, 1024: 64}
        limit = self.c.channels(4) if resolution == 4 else limits[resolution]
        quarter, diagonal = 2 * math.pi / 4, 2 * math.pi / (4 * math.sqrt(2)) / math.sqrt(2)
        directions = [(0.0, quarter), (quarter, 0.0), (-diagonal, diagonal), (diagonal, diagonal)]
        octaves = math.ceil(math.log2(resolution))
        while octaves * len(directions) > limit and len(directions) > 2:
            directions.pop()
        angles = [(a * x[None, :] + b * y[:, None]) * 2.0**k for a, b in directions for k in range(1, octaves)]
        features = torch.stack([torch.sin(angle) for angle in angles] + [torch.cos(angle) for angle in angles])
        return features.expand(batch, -1, -1, -1)

    def patchwise(self, x: Tensor, run: object) -> Tensor:
        """`run` on each patch alone; for `replicate`, padded with three copies of its outer columns, then cropped."""
        assert callable(run)
        if self.c.padding == "zeros":
            return torch.cat([run(patch) for patch in x.chunk(self.c.grid_size, dim=3)], dim=3)
        parts = []
        for patch in x.chunk(self.c.grid_size, dim=3):
            wide = run(torch.cat([patch[..., :1]] * 3 + [patch] + [patch[..., -1:]] * 3, dim=3))
            cut = 3 * wide.shape[2] // patch.shape[2]
            parts.append(wide[..., cut:-cut])
        return torch.cat(parts, dim=3)

    def conv(
        self, name: str, x: Tensor, w: list[Tensor], shift: int, resolution: int, *, up: bool, noise: bool
    ) -> Tensor:
        half = self.c.is_half(resolution)
        x = self.align(x, [self.styles(name, one, half=half) for one in w], shift)
        weight = self.w[f"{name}.weight"]
        if half:
            largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
            weight = weight / (math.sqrt(weight[0].numel()) * largest)
        if up:
            x = self.patchwise(
                x, lambda patch: low_pass(functional.conv_transpose2d(patch, weight.transpose(0, 1), stride=2))
            )
        else:
            x = self.patchwise(x, lambda patch: functional.conv2d(patch, weight, padding=1))
        x = x / torch.sqrt(weight.square().sum(dim=(1, 2, 3)) + 1e-8)[None, :, None, None]
        if noise:
            x = x + self.w[f"{name}.noise_const"] * self.w[f"{name}.noise_strength"]
        x = x + self.w[f"{name}.bias"][None, :, None, None]
        x = functional.leaky_relu(x, 0.2) * math.sqrt(2)
        return x if self.c.conv_clamp is None else x.clamp(-self.c.conv_clamp, self.c.conv_clamp)

    def rgb(self, name: str, x: Tensor, w: list[Tensor], shift: int) -> Tensor:
        weight = self.w[f"{name}.weight"]
        gain = 1 / math.sqrt(weight.shape[1])
        x = self.align(x, [self.styles(name, one, half=False, gain=gain) for one in w], shift)
        x = functional.conv2d(x, weight) + self.w[f"{name}.bias"][None, :, None, None]
        return x if self.c.conv_clamp is None else x.clamp(-self.c.conv_clamp, self.c.conv_clamp)

    def __call__(self, codes: list[Tensor], shift: int, *, noise: bool) -> Tensor:
        """One frame per sample, from the codes of left, centre and right anchors, [B, S] each."""
        codes = [code.double() for code in codes]
        batch = len(codes[0])
        column = self.w["synthesis.b4.column"][None, :, :, None].expand(batch, -1, -1, 4)
        x = self.align(column, [self.styles("synthesis.b4.input", one, half=False) for one in codes], shift)
        x = torch.cat([x, self.waves(4, 4, shift, batch)], dim=1)
        x = self.conv("synthesis.b4.conv1", x, codes, shift, 4, up=False, noise=noise)
        image = self.rgb("synthesis.b4.torgb", x, codes, shift)
        resolution = 8
        while resolution <= self.c.resolution:
            name = f"synthesis.b{resolution}"
            if resolution <= self.c.wave_limit:
                x = torch.cat([x, self.waves(resolution // 2, resolution, shift, batch)], dim=1)
            x = self.conv(f"{name}.conv0", x, codes, shift, resolution, up=True, noise=noise)
            x = self.conv(f"{name}.conv1", x, codes, shift, resolution, up=False, noise=noise)
            image = self.patchwise(image, doubled) + self.rgb(f"{name}.torgb", x, codes, shift)
            resolution *= 2
        return image


def _filter(x: Tensor, pad: tuple[int, int]) -> Tensor:
    one = torch.tensor([1, 3, 3, 1], dtype=torch.float64)
    taps = (one[:, None] * one / 64 * 4).expand(x.shape[1], 1, 4, 4)
    return functional.conv2d(functional.pad(x, [*pad, *pad]), taps, groups=x.shape[1])


def low_pass(x: Tensor) -> Tensor:
    """The filter with gain 4 after a transposed convolution, cropped to twice the size."""
    return _filter(x, (1, 1))


def doubled(x: Tensor) -> Tensor:
    """Insert zeros, then filter with gain 4."""
    wide = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
    wide[:, :, ::2, ::2] = x
    return _filter(wide, (2, 1))


def window_shares(column_BW: Tensor, half_window: int) -> Tensor:
    """Shares of left, centre and right anchor at whole columns of a window: [B, W] integers → float64 [B, 3, W].

    Args:
        half_window: columns n between two anchors. Column i lies (i + ½)/n of the way from left to centre.
    """
    way_BW = (column_BW.double() + 0.5) / half_window
    left_BW, right_BW = (1 - way_BW).clamp(min=0), (way_BW - 1).clamp(min=0)
    return torch.stack([left_BW, 1 - left_BW - right_BW, right_BW], dim=1)


def coordinates(config: ModelConfig, width: int, shift_B: Tensor) -> Tensor:
    """(x, y) of every column and row of square frames, float64 [B, 2, W, W].

    Args:
        width: the frame's width W at this layer, in columns.
        shift_B: place of each frame's left border in the window, in patches.
    """
    steps = torch.arange(width, dtype=torch.float64)
    first_B = shift_B.double() * (width // config.grid_size)
    x_BW = 2 * (first_B[:, None] + steps) / width - config.w_coord_dist
    y_H = 1 - 2 * (steps + 1) / width
    size = (len(shift_B), width, width)
    return torch.stack([x_BW[:, None, :].expand(size), y_H[None, :, None].expand(size)], dim=1)
