"""SA-AdaIN in Triton: styles are interpolated in registers; the feature map is read and written only once.

Its derivatives are the same product and one reduction, whose derivatives are again these two, so it can be
differentiated any number of times. The anchors' shares are geometry and get no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from alis.ops import tiles

# Rows summed by one program of the reduction.
CHUNK = 64


def align_triton(x_BCHW: Tensor, styles_BAC: Tensor, shares_BAW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`alis.ops.align` by a Triton kernel."""
    if out is not None:
        return _product(x_BCHW, styles_BAC, shares_BAW, out)
    y: Tensor = _Align.apply(x_BCHW, styles_BAC, shares_BAW)
    return y


def style_gradient_triton(p_BCHW: Tensor, q_BCHW: Tensor, shares_BAW: Tensor, dtype: torch.dtype) -> Tensor:
    """`alis.ops.align.style_gradient` by a Triton kernel."""
    sums: Tensor = _StyleGradient.apply(p_BCHW, q_BCHW, shares_BAW, dtype)
    return sums


class _Align(torch.autograd.Function):
    """y = x · Σ_a share_a · style_a."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, styles: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(x, styles, shares)
        return _product(x, styles, shares, tiles.empty(x))

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, styles, shares = ctx.saved_tensors
        gx = _Align.apply(gy, styles, shares) if ctx.needs_input_grad[0] else None
        gstyles = _StyleGradient.apply(gy, x, shares, styles.dtype) if ctx.needs_input_grad[1] else None
        return gx, gstyles, None


class _StyleGradient(torch.autograd.Function):
    """s_a = Σ_{rows, columns} share_a · p · q: the gradient of the styles."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor, shares: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(p, q, shares)
        return _sums(p, q, shares).to(dtype)

    @staticmethod
    def backward(ctx: Any, gs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        p, q, shares = ctx.saved_tensors
        gp = _Align.apply(q, gs, shares).to(p.dtype) if ctx.needs_input_grad[0] else None
        gq = _Align.apply(p, gs, shares).to(q.dtype) if ctx.needs_input_grad[1] else None
        return gp, gq, None, None


def _product(x: Tensor, styles: Tensor, shares: Tensor, y: Tensor) -> Tensor:
    way = tiles.walk(x)
    if x.numel():
        with torch.cuda.device_of(x):
            _product_kernel[way.grid](
                x,
                styles,
                shares,
                y,
                *x.shape[1:],
                *x.stride(),
                *styles.stride(),
                *shares.stride(),
                *y.stride(),
                styles.shape[1],
                tiles.precision(x),
                way.last,
                way.outer,
                way.inner,
            )
    return y


def _sums(p: Tensor, q: Tensor, shares: Tensor) -> Tensor:
    batch, channels, height, width = p.shape
    num_anchors, num_chunks = shares.shape[1], triton.cdiv(height, CHUNK)
    wide = torch.float64 if p.dtype == torch.float64 else torch.float32
    part = torch.zeros([num_chunks, batch, num_anchors, channels], dtype=wide, device=p.device)
    if p.numel():
        inner = min(triton.next_power_of_2(width), 256, tiles.TILE)
        outer = min(triton.next_power_of_2(min(height, CHUNK)), max(tiles.TILE // inner, 1))
        with torch.cuda.device_of(p):
            _sums_kernel[(channels, num_chunks, batch)](
                p,
                q,
                shares,
                part,
                height,
                width,
                *p.stride(),
                *q.stride(),
                *shares.stride(),
                *part.stride(),
                num_anchors,
                CHUNK,
                tiles.precision(p),
                outer,
                inner,
            )
    return part.sum(dim=0)


@triton.jit
def _product_kernel(
    x,
    styles,
    shares,
    y,
    C,
    H,
    W,
    x_b,
    x_c,
    x_h,
    x_w,
    t_b,
    t_a,
    t_c,
    s_b,
    s_a,
    s_w,
    y_b,
    y_c,
    y_h,
    y_w,
    NUM: tl.constexpr,
    WIDE: tl.constexpr,
    LAST: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
):
    b, c, h, w, real = tiles.place(C, H, W, LAST, OUTER, INNER)
    scale = tl.zeros([1, 1], WIDE)
    for a in tl.static_range(NUM):
        style = tl.load(styles + b * t_b + a * t_a + c * t_c, mask=c < C, other=0.0).to(WIDE)
        scale += style * tl.load(shares + b * s_b + a * s_a + w * s_w, mask=w < W, other=0.0).to(WIDE)
    value = tl.load(x + b * x_b + c * x_c + h * x_h + w * x_w, mask=real, other=0.0).to(WIDE)
    tl.store(y + b * y_b + c * y_c + h * y_h + w * y_w, (value * scale).to(y.dtype.element_ty), mask=real)


@triton.jit
def _sums_kernel(
    p,
    q,
    shares,
    part,
    H,
    W,
    p_b,
    p_c,
    p_h,
    p_w,
    q_b,
    q_c,
    q_h,
    q_w,
    s_b,
    s_a,
    s_w,
    o_k,
    o_b,
    o_a,
    o_c,
    NUM: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
):
    c, chunk, b = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2).to(tl.int64)
    for a in tl.static_range(NUM):
        total = tl.zeros([OUTER, INNER], WIDE)
        for row in range(0, CHUNK, OUTER):
            h = chunk * CHUNK + row + tl.arange(0, OUTER)[:, None]
            for column in range(0, W, INNER):
                w = column + tl.arange(0, INNER)[None, :]
                real = (h < H) & (w < W)
                one = tl.load(p + b * p_b + c * p_c + h * p_h + w * p_w, mask=real, other=0.0).to(WIDE)
                two = tl.load(q + b * q_b + c * q_c + h * q_h + w * q_w, mask=real, other=0.0).to(WIDE)
                total += one * two * tl.load(shares + b * s_b + a * s_a + w * s_w, mask=w < W, other=0.0).to(WIDE)
        tl.store(part + chunk * o_k + b * o_b + a * o_a + c * o_c, tl.sum(total))
