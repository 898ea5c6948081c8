"""The layers of the networks: equalised dense and convolution layers, and the generator's synthesis layers.

Letters: B ranges of columns (or patches), A anchors in a table, K anchors of a range, C channels, I and O input and
output channels, H rows, w columns of a range, S width of a code.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis import ops
from alis.config import ModelConfig
from alis.ops.align import column_styles, match_layout
from alis.ops.bias_act import GAIN, needs_gradient
from alis.ops.layout import conv2d, conv_transpose2d, is_column_major, layout_of


class Dense(nn.Module):
    """y = x·Wᵀ + b with equalised learning rate: weights are stored as N(0, 1)/lr and multiplied by lr/√fan_in.

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
    """Equalised convolution of the discriminator, with activation; `down` halves the map by a blur and stride 2."""

    def __init__(
        self,
        num_in: int,
        num_out: int,
        size: int,
        *,
        down: bool = False,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, size, size))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.down, self.size, self.gain = down, size, GAIN * gain
        self.clamp = None if clamp is None else clamp * gain
        self.weight_gain = 1 / math.sqrt(num_in * size * size)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # The gain is positive, so it can be applied to weight and bias instead of the larger feature map.
        weight = (self.weight * (self.weight_gain * self.gain)).to(x_BCHW.dtype)
        if self.down:
            x = functional.conv2d(ops.blur(x_BCHW, 2), weight, stride=2)
        else:
            x = functional.conv2d(x_BCHW, weight, padding=self.size // 2)
        return ops.bias_act(x, self.bias * self.gain, gain=1.0, clamp=self.clamp)


class Skip(nn.Module):
    """Equalised 1×1 convolution of the discriminator's skip path: halves the map; no bias, no activation."""

    def __init__(self, num_in: int, num_out: int, *, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, 1, 1))
        self.gain = gain / math.sqrt(num_in)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.conv2d(ops.down2(x_BCHW), (self.weight * self.gain).to(x_BCHW.dtype))


class StyledLayer(nn.Module):
    """Base of the synthesis layers: an affine layer that maps each anchor's code to its style."""

    def __init__(self, num_in: int, w_dim: int, *, bias: float, normalise: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.affine = Dense(w_dim, num_in, bias=bias)
        self.normalise, self.style_gain = normalise, gain

    def styles(self, w_AS: Tensor, anchors_BK: Tensor) -> Tensor:
        """Styles of each range's anchors, [B, K, C]; the affine layer runs once for each anchor in the table."""
        style_AC: Tensor = self.affine(w_AS)
        if self.normalise:
            style_AC = style_AC / style_AC.abs().amax(dim=1, keepdim=True)
        if self.style_gain != 1:
            style_AC = style_AC * self.style_gain
        return style_AC[anchors_BK]


@dataclass
class PositionInputs:
    """Positional inputs of a block's first layer: further channels that depend on the position on the plane.

    Wave features as factors, Σ_t across[t] · down[t] (`coords.wave_tables`), and local latents [B, M, H, w].
    """

    across_2BKw: Tensor
    down_2KH: Tensor
    latents_BMHw: Tensor | None = None

    @property
    def num_channels(self) -> int:
        """Number of channels of waves and latents together."""
        return self.down_2KH.shape[1] + (0 if self.latents_BMHw is None else self.latents_BMHw.shape[1])

    def aligned(self, styles_BKC: Tensor, shares_BKw: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """Waves and latents times their styles, [B, C, H, w]; waves' styles multiply the small factor, not the map.

        Args:
            out: where to write the result; only allowed while no gradient is recorded.
        """
        scale_BCw, num = column_styles(styles_BKC, shares_BKw), self.down_2KH.shape[1]
        across, down = (self.across_2BKw.to(scale_BCw.dtype) * scale_BCw[:, :num]).to(dtype), self.down_2KH.to(dtype)
        latents, scale_BMw = self.latents_BMHw, scale_BCw[:, num:].to(dtype)
        if out is not None:
            across, down, scale_BMw = (match_layout(out, factor) for factor in (across, down, scale_BMw))
        across, down = across[:, :, :, None, :], down[:, None, :, :, None]
        if out is not None:
            torch.mul(across[0], down[0], out=out[:, :num]).addcmul_(across[1], down[1])
            if latents is not None:
                torch.mul(latents.to(dtype), scale_BMw.unsqueeze(2), out=out[:, num:])
            return out
        waves = across[0] * down[0] + across[1] * down[1]
        return waves if latents is None else torch.cat([waves, latents.to(dtype) * scale_BMw.unsqueeze(2)], dim=1)


class SynthesisConv(StyledLayer):
    """3×3 synthesis layer: SA-AdaIN → convolution, optionally up-sampling → demodulation → noise → bias → act → clamp.

    Demodulation does not depend on the styles, so it is folded into the weight, together with the gains of the
    activation (positive, so lrelu(x)·√2 = lrelu(x·√2)) and of the up-sampling.

    With `padding = "plane"` in `config`, the output has only those columns for which the input has all taps.
    """

    def __init__(self, num_in: int, num_out: int, resolution: int, config: ModelConfig, *, up: bool) -> None:
        super().__init__(num_in, config.w_dim, bias=1.0, normalise=config.is_half(resolution))
        self.weight = nn.Parameter(torch.randn(num_out, num_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_const: Tensor
        self.up, self.clamp, self.padding = up, config.conv_clamp, config.padding
        self._kept: tuple[object, Tensor] | None = None

    def folded(self, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
        """The demodulated weight, normalised for each output channel, times the gains.

        [O, I, 3, 3], or [I, O, 3, 3] for up-sampling. The published half-precision blocks also scale the weight before;
        the normalisation cancels that. Cached in eval mode for weights without gradient, until the weight changes; a
        change through `weight.data` is not noticed.
        """
        # While a graph is traced, weights have no addresses to recognise them by.
        is_traced = torch.compiler.is_compiling()
        if is_traced or self.training or self.weight.requires_grad or self.weight.is_inference():
            return self._fold(dtype, layout)
        key = (dtype, layout, self.weight.device, self.weight.data_ptr(), self.weight._version)
        if self._kept is None or self._kept[0] != key:
            # The cache outlives this call: an inference tensor could not be used with gradients later.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (key, self._fold(dtype, layout).clone())
        return self._kept[1]

    def _fold(self, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
        length = (self.weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        weight = self.weight * (length * (GAIN * 4 if self.up else GAIN))
        return (weight.transpose(0, 1) if self.up else weight).to(dtype).contiguous(memory_format=layout)

    def forward(
        self,
        x: Tensor,
        styles_BKC: Tensor,
        shares_BKw: Tensor,
        noise: Tensor | None,
        place: PositionInputs | None = None,
        crop: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """[B, C, H, w] → [B, O, H, w], or twice the height and width; positional inputs are further input channels.

        With plane padding the result is two columns narrower (up-sampling: twice the width less 2), and an up-sampled
        map is cropped by further `crop` columns left and right (1 or 2) that no later layer needs.
        """
        if self.padding == "plane":
            x = self._on_plane(x, styles_BKC, shares_BKw, place, crop)
        else:
            x = self._on_patch(self._align(x, styles_BKC, shares_BKw, place))
        if noise is not None:
            noise = noise * (self.noise_strength * GAIN).to(noise.dtype)
        return ops.bias_act_(x, self.bias * GAIN, noise, gain=1.0, clamp=self.clamp)

    def _on_plane(
        self, x: Tensor, styles_BKC: Tensor, shares_BKw: Tensor, place: PositionInputs | None, crop: tuple[int, int]
    ) -> Tensor:
        num = x.shape[1]
        own_BKC, others_BKC = styles_BKC[:, :, :num], styles_BKC[:, :, num:]
        if place is None:
            x = ops.stack(x, own_BKC, shares_BKw)
        elif needs_gradient(x, styles_BKC):
            x = ops.stack(x, own_BKC, shares_BKw, place.aligned(others_BKC, shares_BKw, x.dtype))
        else:
            write = functools.partial(place.aligned, others_BKC, shares_BKw, x.dtype)
            x = ops.stack_written(x, own_BKC, shares_BKw, place.num_channels, write)
        weight = self.folded(x.dtype, layout_of(x))
        if not self.up:
            return conv2d(x, weight)
        both = min(crop)
        x = conv_transpose2d(x, weight, stride=2, padding=(1, both))
        return ops.blur(x[..., crop[0] - both : x.shape[3] - (crop[1] - both)], 0)

    def _on_patch(self, x: Tensor) -> Tensor:
        weight, is_extended = self.folded(x.dtype, layout_of(x)), self.padding == "replicate"
        if is_extended:
            x = ops.extend(x)
        if self.up:
            x = ops.blur(functional.conv_transpose2d(x, weight, stride=2), 1)
            return ops.shrink(x, 2) if is_extended else x
        return functional.conv2d(x, weight, padding=(1, 0 if is_extended else 1))

    def _align(self, x: Tensor, styles_BKC: Tensor, shares_BKw: Tensor, place: PositionInputs | None) -> Tensor:
        if place is None:
            return ops.align(x, styles_BKC, shares_BKw)
        num, all_in = x.shape[1], styles_BKC.shape[2]
        if needs_gradient(x, styles_BKC):
            own = ops.align(x, styles_BKC[:, :, :num], shares_BKw)
            return torch.cat([own, place.aligned(styles_BKC[:, :, num:], shares_BKw, x.dtype)], dim=1)
        size = (x.shape[0], all_in, *x.shape[2:])
        both = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
        ops.align(x, styles_BKC[:, :, :num], shares_BKw, out=both[:, :num])
        place.aligned(styles_BKC[:, :, num:], shares_BKw, x.dtype, out=both[:, num:])
        return both


class ToRGB(StyledLayer):
    """1×1 layer to RGB: SA-AdaIN with styles over √C, bias, clamp; no demodulation, styles are never normalised.

    Shares are the same for all channels, so Σ_c W·(Σ_k share_k·style_k)·x = Σ_k share_k·(Σ_c W·style_k·x): three sums
    over channels per pixel and anchor, and no styled copy of the features. Wide ranges have too many anchors for that;
    there each column has its own three weights, Σ_k share_k·W·style_k.
    """

    FEW, ROWS, COLUMNS = 4, 16, 32

    def __init__(self, num_in: int, w_dim: int, *, clamp: float | None) -> None:
        super().__init__(num_in, w_dim, bias=1.0, gain=1 / math.sqrt(num_in))
        self.weight = nn.Parameter(torch.randn(3, num_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = clamp

    def forward(self, x_BCHw: Tensor, styles_BKC: Tensor, shares_BKw: Tensor, first: int = 0) -> Tensor:
        """RGB of the columns first … first + w − 1: [B, 3, H, w], float32 (float64 for float64).

        As many channels as the weight has: three, but where blocks are looked at one by one (alis.metrics.colours).
        """
        num, height, width, stop = styles_BKC.shape[1], *x_BCHw.shape[2:], first + shares_BKw.shape[2]
        weight_BKOC = styles_BKC[:, :, None, :] * self.weight.flatten(1)
        shares_BKw = shares_BKw.to(styles_BKC.dtype)
        if num > self.FEW or is_column_major(x_BCHw):
            rgb = self._by_column(x_BCHw[..., first:stop], weight_BKOC, shares_BKw).to(styles_BKC.dtype)
        else:
            # The few columns outside the picture are computed too: leaving them out would copy the features.
            sums_BMN = torch.bmm(weight_BKOC.flatten(1, 2).to(x_BCHw.dtype), x_BCHw.flatten(2))
            sums_BKOHw = sums_BMN.to(styles_BKC.dtype).view(len(x_BCHw), num, -1, height, width)[..., first:stop]
            rgb = (sums_BKOHw * shares_BKw[:, :, None, None, :]).sum(dim=1)
        return ops.bias_act_(rgb, self.bias, slope=1.0, gain=1.0, clamp=self.clamp)

    @staticmethod
    def _by_column(x_BCHw: Tensor, weight_BKOC: Tensor, shares_BKw: Tensor) -> Tensor:
        """One range and a few rows or columns at a time, with the columns as the batch of a matrix product.

        Rows where columns are stored apart: all at once would touch a memory page for every number of a column, four
        times slower at 1024 × 4096 pixels. Columns where each is stored together: the products stay in the cache until
        they are turned into rows, a seventh of the time that it takes for all at once.
        """
        weight_BwOC = torch.einsum("bkw,bkoc->bwoc", shares_BKw, weight_BKOC).to(x_BCHw.dtype)
        rgb = torch.empty(
            [len(x_BCHw), weight_BwOC.shape[2], *x_BCHw.shape[2:]], dtype=x_BCHw.dtype, device=x_BCHw.device
        )
        every, (height, width) = slice(None), x_BCHw.shape[2:]
        if is_column_major(x_BCHw):
            pieces = [(every, slice(left, left + ToRGB.COLUMNS)) for left in range(0, width, ToRGB.COLUMNS)]
        else:
            num_rows = ToRGB.ROWS if x_BCHw.device.type == "cpu" else height
            pieces = [(slice(top, top + num_rows), every) for top in range(0, height, num_rows)]
        for weight_wOC, x_CHw, rgb_OHw in zip(weight_BwOC, x_BCHw, rgb, strict=True):
            for rows, columns in pieces:
                x_wCH = x_CHw[:, rows, columns].permute(2, 0, 1)
                rgb_OHw[:, rows, columns] = torch.bmm(weight_wOC[columns], x_wCH).permute(1, 2, 0)
        return rgb
