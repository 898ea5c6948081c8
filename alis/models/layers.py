"""The layers both networks are made of: equalised dense and convolution layers, and the patch layers of synthesis.

Letters: P patches, A anchors, C channels, I and O channels in and out, H rows, w columns of a patch, S width of a code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis import ops
from alis.ops.bias_act import GAIN, SLOPE


class Dense(nn.Module):
    """y = x·Wᵀ + b with equalised learning rate: stored N(0, 1)/lr, used times lr/√fan_in.

    Source: arXiv 1710.10196, section 4.1.
    """

    def __init__(self, num_in: int, num_out: int, *, slope: float = 1.0, lr: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / lr)
        self.bias = nn.Parameter(torch.full([num_out], float(bias)))
        self.slope, self.lr = slope, lr
        self.gain = lr / math.sqrt(num_in)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype) * self.gain, self.bias.to(x.dtype)
        if self.slope == 1:
            return functional.linear(x, weight, bias * self.lr if self.lr != 1 else bias)
        return ops.bias_act(functional.linear(x, weight), bias * self.lr, slope=self.slope)


class Conv(nn.Module):
    """Equalised convolution of the discriminator, optionally halving the map: blur, then stride 2."""

    def __init__(
        self, num_in: int, num_out: int, size: int, *, down: bool = False, act: bool = True, gain: float = 1.0,
        bias: bool = True, clamp: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, size, size))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        self.down, self.size = down, size
        self.slope, self.gain = (SLOPE if act else 1.0), (GAIN if act else 1.0) * gain
        self.clamp = None if clamp is None else clamp * gain
        self.weight_gain = 1 / math.sqrt(num_in * size * size)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x_BCHW.dtype)
        if not self.down:
            x = functional.conv2d(x_BCHW, weight, padding=self.size // 2)
        elif self.size == 1:
            x = functional.conv2d(ops.down2(x_BCHW), weight)
        else:
            x = functional.conv2d(ops.blur(x_BCHW, 2), weight, stride=2)
        if self.bias is None:
            return x * self.gain
        return ops.bias_act(x, self.bias, slope=self.slope, gain=self.gain, clamp=self.clamp)


class Anchored(nn.Module):
    """What every layer of synthesis shares: an affine of each anchor's code, spread over a patch's columns."""

    def __init__(self, num_in: int, w_dim: int, *, bias: float, normalise: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.affine = Dense(w_dim, num_in, bias=bias)
        self.normalise, self.style_gain = normalise, gain

    def styles(self, w_AS: Tensor, anchors_P3: Tensor) -> Tensor:
        """Styles of each patch's three anchors, [P, 3, C]; the affine runs once for each anchor of the table."""
        style_AC: Tensor = self.affine(w_AS)
        if self.normalise:
            style_AC = style_AC / style_AC.abs().amax(dim=1, keepdim=True)
        if self.style_gain != 1:
            style_AC = style_AC * self.style_gain
        return style_AC[anchors_P3]


class PatchConv(Anchored):
    """3×3 layer of synthesis: SA-AdaIN → convolution, optionally doubling → demodulation → noise → bias → act → clamp.

    Demodulation does not depend on the styles, so it is folded into the weight.
    """

    def __init__(
        self, num_in: int, num_out: int, w_dim: int, resolution: int, *, up: bool, normalise: bool, clamp: float | None
    ) -> None:  # fmt: skip
        super().__init__(num_in, w_dim, bias=1.0, normalise=normalise)
        self.weight = nn.Parameter(torch.randn(num_out, num_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_const: Tensor
        self.up, self.clamp = up, clamp

    def demodulated(self, dtype: torch.dtype) -> Tensor:
        """The weight divided by its own length for each output channel, [O, I, 3, 3].

        The published half-precision blocks scale it before; the length cancels that."""
        weight = self.weight * (self.weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        return weight.to(dtype)

    def forward(self, x_PCHw: Tensor, styles_P3C: Tensor, shares_P3w: Tensor, noise: Tensor | None) -> Tensor:
        x = ops.align(x_PCHw, styles_P3C, shares_P3w)
        weight = self.demodulated(x.dtype)
        if self.up:
            x = functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = ops.blur(x, 1, gain=4.0)
        else:
            x = functional.conv2d(x, weight, padding=1)
        if noise is not None:
            noise = noise * self.noise_strength.to(noise.dtype)
        return ops.bias_act(x, self.bias, noise, clamp=self.clamp)


class ToRGB(Anchored):
    """1×1 layer to colours: SA-AdaIN with styles over √C, no demodulation, bias, clamp; styles never normalised."""

    def __init__(self, num_in: int, w_dim: int, *, clamp: float | None) -> None:
        super().__init__(num_in, w_dim, bias=1.0, gain=1 / math.sqrt(num_in))
        self.weight = nn.Parameter(torch.randn(3, num_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = clamp

    def forward(self, x_PCHw: Tensor, styles_P3C: Tensor, shares_P3w: Tensor) -> Tensor:
        x = functional.conv2d(ops.align(x_PCHw, styles_P3C, shares_P3w), self.weight.to(x_PCHw.dtype))
        return ops.bias_act(x, self.bias, slope=1.0, gain=1.0, clamp=self.clamp)
