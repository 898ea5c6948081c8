"""Frames → logits: the residual discriminator of StyleGAN2, on whole frames.

Letters: B batch, C channels, r a block's resolution. Source: arXiv 1912.04958; arXiv 1710.10196 (minibatch deviation).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from alis.config import ModelConfig
from alis.errors import InputError
from alis.models.layers import Conv, Dense, Skip
from alis.ops.bias_act import SLOPE
from alis.ops.malloc import keep_freed_memory


class DownBlock(nn.Module):
    """Residual block: two 3×3 layers and a 1×1 skip path, both times √½; halves height and width."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        num_in, num_out = config.channels(resolution), config.channels(resolution // 2)
        clamp, half = config.conv_clamp, math.sqrt(0.5)
        if resolution == config.resolution:
            self.fromrgb = Conv(3, num_in, 1, clamp=clamp)
        self.skip = Skip(num_in, num_out, gain=half)
        self.conv0 = Conv(num_in, num_in, 3, clamp=clamp)
        self.conv1 = Conv(num_in, num_out, 3, down=True, gain=half, clamp=clamp)
        self.resolution = resolution

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        y: Tensor = self.skip(x) + self.conv1(self.conv0(x))
        return y


class Epilogue(nn.Module):
    """Last block: 4×4 features and their minibatch standard deviation → one logit per image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        num = config.channels(4)
        self.group_size = config.mbstd_group_size
        self.conv = Conv(num + 1, num, 3, clamp=config.conv_clamp)
        self.fc = Dense(num * 16, num, slope=SLOPE)
        self.out = Dense(num, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        deviation = group_deviation(x_BCHW, self.group_size)
        x = self.conv(torch.cat([x_BCHW, deviation], dim=1))
        logits: Tensor = self.out(self.fc(x.flatten(1)))
        return logits


def group_deviation(x_BCHW: Tensor, group_size: int) -> Tensor:
    """Minibatch standard deviation: its mean within each group of images, as a constant channel [B, 1, H, W].

    Image i is in group i mod (B / size). The size is the largest that divides B and is not above `group_size`.
    """
    num = len(x_BCHW)
    size = next(k for k in range(min(group_size, num), 0, -1) if num % k == 0)
    groups = x_BCHW.reshape(size, num // size, *x_BCHW.shape[1:])
    deviation_N: Tensor = (groups - groups.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation_N.repeat(size).view(-1, 1, 1, 1).expand(-1, 1, *x_BCHW.shape[2:])


class Discriminator(nn.Module):
    """Whole frames [B, 3, R, R] in about [-1, 1] → logits [B, 1]; it is not told patches or positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in reversed(config.resolutions[1:]):
            self.add_module(f"b{resolution}", DownBlock(config, resolution))
        self.b4 = Epilogue(config)
        self.dtype = torch.float32
        self.half_from: int | None = None
        self.layout: torch.memory_format | None = None
        """Memory format of features; None: channels-last when training on a CPU, else as they come."""

    def set_precision(self, dtype: torch.dtype, from_resolution: int | None = None) -> Discriminator:
        """Compute blocks from this resolution up in `dtype`; by default the config's half-precision blocks, or four."""
        self.dtype = dtype
        self.half_from = from_resolution or self.config.half_from or max(self.config.resolution // 8, 8)
        return self

    def forward(self, image_B3RR: Tensor) -> Tensor:
        """Logits [B, 1]; above zero means real.

        Raises:
            InputError: images of another size.
        """
        size = self.config.resolution
        if image_B3RR.shape[1:] != (3, size, size):
            raise InputError(f"images: shape {tuple(image_B3RR.shape)}", hint=f"give [B, 3, {size}, {size}]")
        full = image_B3RR.dtype if image_B3RR.dtype == torch.float64 else torch.float32
        x = image_B3RR
        layout = self.layout
        if self.training and x.device.type == "cpu":
            # Measured: a quarter less time for forward and backward; gradients agree to 2e-4 instead of 1e-4.
            layout = layout or torch.channels_last
            keep_freed_memory()
        if layout is not None:
            x = x.contiguous(memory_format=layout)
        for resolution in reversed(self.config.resolutions[1:]):
            is_half = self.half_from is not None and resolution >= self.half_from
            x = self.get_submodule(f"b{resolution}")(x.to(self.dtype if is_half else full))
        logits: Tensor = self.b4(x.to(full))
        return logits
