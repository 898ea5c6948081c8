"""Styled features, waves and latents concatenated into one map, with the first and last row replicated.

This is the input of 3×3 layers with plane padding. The map is written once instead of three times (product,
concatenation, padding), in both passes. No columns are added: a range comes with the plane's true columns beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alis.ops.align import align, style_gradient
from alis.ops.bias_act import needs_gradient
from alis.ops.layout import empty_like


def stack(x_BCHw: Tensor, styles_BKC: Tensor, shares_BKw: Tensor, rest_BMHw: Tensor | None = None) -> Tensor:
    """[B, C + M, H + 2, w] in x's dtype and memory format; can be differentiated any number of times.

    Args:
        styles_BKC, shares_BKw: as in `alis.ops.align`.
        rest_BMHw: further channels, not multiplied by styles.
    """
    if needs_gradient(x_BCHw, styles_BKC, rest_BMHw):
        stacked: Tensor = _Stack.apply(x_BCHw, styles_BKC, shares_BKw, rest_BMHw)
        return stacked
    return _forward(x_BCHw, styles_BKC, shares_BKw, rest_BMHw)


def stack_written(
    x_BCHw: Tensor, styles_BKC: Tensor, shares_BKw: Tensor, num: int, write: Callable[[Tensor], object]
) -> Tensor:
    """`stack` without gradients, whose `num` further channels [B, num, H, w] are written in place by `write`.

    So no separate map of them is needed, which at full height would be a third of a strip's memory.
    """
    y = _empty(x_BCHw, num)
    own = x_BCHw.shape[1]
    align(x_BCHw, styles_BKC, shares_BKw, out=y[:, :own, 1:-1])
    write(y[:, own:, 1:-1])
    return _with_rows(y)


def _forward(x: Tensor, styles: Tensor, shares: Tensor, rest: Tensor | None) -> Tensor:
    num, more = x.shape[1], 0 if rest is None else rest.shape[1]
    y = _empty(x, more)
    align(x, styles, shares, out=y[:, :num, 1:-1])
    if rest is not None:
        y[:, num:, 1:-1] = rest
    return _with_rows(y)


def _empty(x: Tensor, more: int) -> Tensor:
    size = (x.shape[0], x.shape[1] + more, x.shape[2] + 2, x.shape[3])
    return empty_like(x, size)


def _with_rows(y: Tensor) -> Tensor:
    y[:, :, 0] = y[:, :, 1]
    y[:, :, -1] = y[:, :, -2]
    return y


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, styles: Tensor, shares: Tensor, rest: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, styles, shares)
        ctx.num_rest = 0 if rest is None else rest.shape[1]
        return _forward(x, styles, shares, rest)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, styles, shares = ctx.saved_tensors
        g, num = gradients[0], x.shape[1]
        inner, first, last = g[:, :num, 1:-1], g[:, :num, :1], g[:, :num, -1:]
        gx = gstyles = grest = None
        if ctx.needs_input_grad[0]:
            gx = align(inner, styles, shares)
            gx[:, :, :1] += align(first, styles, shares)
            gx[:, :, -1:] += align(last, styles, shares)
        if ctx.needs_input_grad[1]:
            gstyles = style_gradient(inner, x, shares, styles.dtype)
            gstyles = gstyles + style_gradient(first, x[:, :, :1], shares, styles.dtype)
            gstyles = gstyles + style_gradient(last, x[:, :, -1:], shares, styles.dtype)
        if ctx.num_rest and ctx.needs_input_grad[3]:
            grest = g[:, num:, 1:-1].clone(memory_format=torch.preserve_format)
            grest[:, :, :1] += g[:, num:, :1]
            grest[:, :, -1:] += g[:, num:, -1:]
        return gx, gstyles, None, grest


def repeat_rows(x_BCHW: Tensor) -> Tensor:
    """[B, C, H + 2, W]: x with its first and last row replicated, in the same memory format."""
    return torch.cat([x_BCHW[:, :, :1], x_BCHW, x_BCHW[:, :, -1:]], dim=2)
