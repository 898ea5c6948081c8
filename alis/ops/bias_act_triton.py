"""Noise, bias, leaky ReLU, gain and clamp in Triton: one read and one write.

The slope at each element follows from the result alone: its sign gives the side, and a value of ± clamp was clamped. So
only the result is saved for the gradient. The slope is piecewise constant, so the second derivative is the same product
again. Clamped elements have no gradient, including those exactly at the clamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from alis.ops import tiles


def bias_act_triton(
    x: Tensor, bias_C: Tensor, noise: Tensor | None, *, slope: float, gain: float, clamp: float | None
) -> Tensor:
    """`alis.ops.bias_act` by a Triton kernel; [B, C] is treated as one channels-last row of B pixels."""
    if x.ndim == 2:
        assert noise is None
        # One row, not one column: rows are the grid's second dimension, which is limited to 65,535.
        row = x.t()[None, :, None, :]
        return bias_act_triton(row, bias_C, None, slope=slope, gain=gain, clamp=clamp)[0, :, 0].t()
    y: Tensor = _BiasAct.apply(x, bias_C, noise, slope, gain, clamp)
    return y


def bias_act_triton_(
    x: Tensor, bias_C: Tensor, noise: Tensor | None, *, slope: float, gain: float, clamp: float | None
) -> Tensor:
    """`alis.ops.bias_act_` by the same kernel, without a gradient: 4-D maps are overwritten."""
    if x.ndim == 2:
        return bias_act_triton(x, bias_C, noise, slope=slope, gain=gain, clamp=clamp)
    return _forward(x, bias_C, noise, x, _Activation(slope, gain, clamp))


@dataclass(frozen=True)
class _Activation:
    """The activation's slope below zero, its gain and its clamp."""

    slope: float
    gain: float
    clamp: float | None


class _BiasAct(torch.autograd.Function):
    """y = clamp(lrelu(x + noise + bias) · gain)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, noise: Tensor | None, slope: float, gain: float, clamp: float | None
    ) -> Tensor:
        y = _forward(x, bias, noise, tiles.empty(x), _Activation(slope, gain, clamp))
        ctx.save_for_backward(y)
        ctx.how = slope, gain, clamp
        ctx.dtypes = bias.dtype, None if noise is None else (noise.shape, noise.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        gx = _Slope.apply(gy, y.detach(), *ctx.how)
        gbias = gx.sum(dim=(0, 2, 3), dtype=ctx.dtypes[0]) if ctx.needs_input_grad[1] else None
        gnoise = None
        if ctx.needs_input_grad[2]:
            shape, dtype = ctx.dtypes[1]
            gnoise = gx.sum(dim=1, keepdim=True, dtype=dtype).sum_to_size(shape)
        return gx, gbias, gnoise, None, None, None


class _Slope(torch.autograd.Function):
    """g times the slope of the activation at the elements that gave y."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor, slope: float, gain: float, clamp: float | None) -> Tensor:
        ctx.save_for_backward(y)
        ctx.how = slope, gain, clamp
        out = tiles.empty(y)
        way = tiles.walk(y)
        if y.numel():
            with torch.cuda.device_of(y):
                _slope_kernel[way.grid](
                    g,
                    y,
                    out,
                    *y.shape[1:],
                    *g.stride(),
                    *y.stride(),
                    *out.stride(),
                    slope,
                    gain,
                    clamp or 0.0,
                    clamp is not None,
                    tiles.precision(y),
                    way.last,
                    way.outer,
                    way.inner,
                )
        return out

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> tuple[Tensor | None, ...]:
        return _Slope.apply(gg, ctx.saved_tensors[0], *ctx.how), None, None, None, None


def _forward(x: Tensor, bias: Tensor, noise: Tensor | None, y: Tensor, activation: _Activation) -> Tensor:
    way = tiles.walk(x)
    if x.numel():
        spread = bias if noise is None else noise.expand(x.shape[0], 1, *x.shape[2:])
        n_b, _, n_h, n_w = (0, 0, 0, 0) if noise is None else spread.stride()
        with torch.cuda.device_of(x):
            _forward_kernel[way.grid](
                x,
                bias,
                spread,
                y,
                *x.shape[1:],
                *x.stride(),
                bias.stride(0),
                n_b,
                n_h,
                n_w,
                *y.stride(),
                activation.slope,
                activation.gain,
                activation.clamp or 0.0,
                noise is not None,
                activation.clamp is not None,
                tiles.precision(x),
                way.last,
                way.outer,
                way.inner,
            )
    return y


@triton.jit
def _forward_kernel(
    x,
    bias,
    noise,
    y,
    C,
    H,
    W,
    x_b,
    x_c,
    x_h,
    x_w,
    b_c,
    n_b,
    n_h,
    n_w,
    y_b,
    y_c,
    y_h,
    y_w,
    slope,
    gain,
    clamp,
    NOISE: tl.constexpr,
    CLAMP: tl.constexpr,
    WIDE: tl.constexpr,
    LAST: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
):
    b, c, h, w, real = tiles.place(C, H, W, LAST, OUTER, INNER)
    value = tl.load(x + b * x_b + c * x_c + h * x_h + w * x_w, mask=real, other=0.0).to(WIDE)
    value += tl.load(bias + c * b_c, mask=c < C, other=0.0).to(WIDE)
    if NOISE:
        value += tl.load(noise + b * n_b + h * n_h + w * n_w, mask=(h < H) & (w < W), other=0.0).to(WIDE)
    value = tl.where(value > 0, value, value * slope) * gain
    if CLAMP:
        value = tl.minimum(tl.maximum(value, -clamp), clamp)
    tl.store(y + b * y_b + c * y_c + h * y_h + w * y_w, value.to(y.dtype.element_ty), mask=real)


@triton.jit
def _slope_kernel(
    g,
    y,
    out,
    C,
    H,
    W,
    g_b,
    g_c,
    g_h,
    g_w,
    y_b,
    y_c,
    y_h,
    y_w,
    o_b,
    o_c,
    o_h,
    o_w,
    slope,
    gain,
    clamp,
    CLAMP: tl.constexpr,
    WIDE: tl.constexpr,
    LAST: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
):
    b, c, h, w, real = tiles.place(C, H, W, LAST, OUTER, INNER)
    value = tl.load(g + b * g_b + c * g_c + h * g_h + w * g_w, mask=real, other=0.0).to(WIDE)
    result = tl.load(y + b * y_b + c * y_c + h * y_h + w * y_w, mask=real, other=0.0).to(WIDE)
    value = tl.where(result > 0, value, value * slope) * gain
    if CLAMP:
        value = tl.where(tl.abs(result) < clamp, value, 0.0)
    tl.store(out + b * o_b + c * o_c + h * o_h + w * o_w, value.to(out.dtype.element_ty), mask=real)
