"""The layers both networks are made of: equalised dense and convolution layers, and the patch layers of synthesis.

Letters: P patches, A anchors, C channels, I and O channels in and out, H rows, w columns of a patch, S width of a code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis import ops
from alis.ops.align import column_styles
from alis.ops.bias_act import GAIN, SLOPE, needs_gradient
from alis.ops.edges import layout_of

PUBLISHED_WIDTH = 512


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
        self,
        num_in: int,
        num_out: int,
        size: int,
        *,
        down: bool = False,
        act: bool = True,
        gain: float = 1.0,
        bias: bool = True,
        clamp: float | None = None,
    ) -> None:
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
    """What every layer of synthesis shares: an affine of each anchor's code, giving its style."""

    def __init__(self, num_in: int, w_dim: int, *, bias: float, normalise: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.affine = Dense(w_dim, num_in, bias=bias)
        self.normalise, self.style_gain = normalise, gain

    def styles(self, w_AS: Tensor, pairs_P2: Tensor) -> Tensor:
        """Styles of each patch's two anchors, [P, 2, C]; the affine runs once for each anchor of the table."""
        style_AC: Tensor = self.affine(w_AS)
        if self.normalise:
            style_AC = style_AC / style_AC.abs().amax(dim=1, keepdim=True)
        if self.style_gain != 1:
            style_AC = style_AC * self.style_gain
        return style_AC[pairs_P2]


@dataclass
class Waves:
    """Factors of the wave features of a batch of patches: Σ_t across[t] · down[t] (`coords.wave_tables`)."""

    across_2PKw: Tensor
    down_2KH: Tensor

    def aligned(self, styles_P2K: Tensor, shares_P2w: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """The features times their styles, [P, 2K, H, w]; the styles go to the narrow factor, not to the map."""
        scale_PKw = column_styles(styles_P2K, shares_P2w)
        across = (self.across_2PKw.to(scale_PKw.dtype) * scale_PKw).to(dtype)[:, :, :, None, :]
        down = self.down_2KH.to(dtype)[:, None, :, :, None]
        if out is None:
            return across[0] * down[0] + across[1] * down[1]
        return torch.mul(across[0], down[0], out=out).addcmul_(across[1], down[1])


class PatchConv(Anchored):
    """3×3 layer of synthesis: SA-AdaIN → convolution, optionally doubling → demodulation → noise → bias → act → clamp.

    Demodulation does not depend on the styles, so it is folded into the weight, and with it the gain of the
    activation (positive, so lrelu(x)·√2 = lrelu(x·√2)) and of the doubling.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        w_dim: int,
        resolution: int,
        *,
        up: bool,
        normalise: bool,
        clamp: float | None,
        padding: str = "zeros",
        num_waves: int = 0,
    ) -> None:
        super().__init__(num_in, w_dim, bias=1.0, normalise=normalise)
        weight = torch.randn(num_out, num_in, 3, 3)
        if num_waves:
            # Waves start with the share of the input that they have beside the published 512 channels: a narrow
            # network is else mostly waves at its start, and keeps their lattice (docs/log.md).
            weight[:, -num_waves:] *= min((num_in - num_waves) / PUBLISHED_WIDTH, 1.0)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_const: Tensor
        self.up, self.clamp, self.is_extended = up, clamp, padding == "replicate"
        self._kept: tuple[object, Tensor] | None = None

    def folded(self, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
        """The weight over its own length for each output channel, times the gains: [O, I, 3, 3], [I, O, 3, 3] for up.

        The published half-precision blocks scale the weight before; the length cancels that.
        Kept from call to call in a generator opened to paint (eval mode, weights without gradient) while the
        weight stays as it is; writing through `weight.data` would not be noticed."""
        if self.training or self.weight.requires_grad or self.weight.is_inference():
            return self._fold(dtype, layout)
        key = (dtype, layout, self.weight.device, self.weight.data_ptr(), self.weight._version)
        if self._kept is None or self._kept[0] != key:
            # Kept beyond this call: an inference tensor could not be used where gradients are wanted later.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (key, self._fold(dtype, layout).clone())
        return self._kept[1]

    def _fold(self, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
        length = (self.weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        weight = self.weight * (length * (GAIN * 4 if self.up else GAIN))
        return (weight.transpose(0, 1) if self.up else weight).to(dtype).contiguous(memory_format=layout)

    def forward(
        self, x: Tensor, styles_P2C: Tensor, shares_P2w: Tensor, noise: Tensor | None, waves: Waves | None = None
    ) -> Tensor:
        """[P, C, H, w] → [P, O, H, w], or twice the size; the waves of the place are seen as further channels."""
        x = self._align(x, styles_P2C, shares_P2w, waves)
        weight = self.folded(x.dtype, layout_of(x))
        if self.is_extended:
            x = ops.extend(x)
        if self.up:
            x = ops.blur(functional.conv_transpose2d(x, weight, stride=2), 1)
            x = ops.shrink(x, 2) if self.is_extended else x
        else:
            x = functional.conv2d(x, weight, padding=(1, 0 if self.is_extended else 1))
        if noise is not None:
            noise = noise * (self.noise_strength * GAIN).to(noise.dtype)
        return ops.bias_act(x, self.bias * GAIN, noise, gain=1.0, clamp=self.clamp, overwrite=True)

    def _align(self, x: Tensor, styles_P2C: Tensor, shares_P2w: Tensor, waves: Waves | None) -> Tensor:
        if waves is None:
            return ops.align(x, styles_P2C, shares_P2w)
        num, all_in = x.shape[1], styles_P2C.shape[2]
        if needs_gradient(x, styles_P2C):
            own = ops.align(x, styles_P2C[:, :, :num], shares_P2w)
            return torch.cat([own, waves.aligned(styles_P2C[:, :, num:], shares_P2w, x.dtype)], dim=1)
        size = (x.shape[0], all_in, *x.shape[2:])
        both = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
        ops.align(x, styles_P2C[:, :, :num], shares_P2w, out=both[:, :num])
        waves.aligned(styles_P2C[:, :, num:], shares_P2w, x.dtype, out=both[:, num:])
        return both


class ToRGB(Anchored):
    """1×1 layer to colours: SA-AdaIN with styles over √C, no demodulation, bias, clamp; styles never normalised.

    Shares are the same for all channels, so Σ_c W·(Σ_a share_a·style_a)·x = Σ_a share_a·(Σ_c W·style_a·x): six
    sums over channels a pixel, and no styled copy of the features.
    """

    def __init__(self, num_in: int, w_dim: int, *, clamp: float | None) -> None:
        super().__init__(num_in, w_dim, bias=1.0, gain=1 / math.sqrt(num_in))
        self.weight = nn.Parameter(torch.randn(3, num_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = clamp

    def forward(self, x_PCHw: Tensor, styles_P2C: Tensor, shares_P2w: Tensor) -> Tensor:
        """Colours, [P, 3, H, w], float32 (float64 for float64)."""
        weight_P2OC = styles_P2C[:, :, None, :] * self.weight.flatten(1)
        sums_P6N = torch.bmm(weight_P2OC.flatten(1, 2).to(x_PCHw.dtype), x_PCHw.flatten(2))
        sums_P2OHw = sums_P6N.to(styles_P2C.dtype).view(len(x_PCHw), 2, 3, *x_PCHw.shape[2:])
        rgb = (sums_P2OHw * shares_P2w.to(styles_P2C.dtype)[:, :, None, None, :]).sum(dim=1)
        return ops.bias_act(rgb, self.bias, slope=1.0, gain=1.0, clamp=self.clamp, overwrite=True)
