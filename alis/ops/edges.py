"""Replicate padding in width: one column more on each side, a copy of the outermost one (`padding = "replicate"`).

Patches stay independent of their neighbours, as with zero padding, but their borders are not darkened.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alis.ops.layout import layout_of


def extend(x_BCHw: Tensor) -> Tensor:
    """[B, C, H, w] → [B, C, H, w + 2], in x's memory format; can be differentiated any number of times."""
    wide: Tensor = _Extend.apply(x_BCHw)
    return wide


def shrink(x_BCHw: Tensor, num: int) -> Tensor:
    """[B, C, H, w] → [B, C, H, w − 2·num]: crop `num` columns (at least 1) on each side, in x's memory format."""
    layout = layout_of(x_BCHw)
    return x_BCHw[..., num:-num].contiguous(memory_format=layout)


class _Extend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        size = (*x.shape[:3], x.shape[3] + 2)
        wide = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
        wide[..., 1:-1] = x
        wide[..., :1] = x[..., :1]
        wide[..., -1:] = x[..., -1:]
        return wide

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        folded: Tensor = _Fold.apply(gradient)
        return folded


class _Fold(torch.autograd.Function):
    """The transpose of `_Extend`: the outermost columns are added to their neighbours."""

    @staticmethod
    def forward(ctx: Any, wide: Tensor) -> Tensor:
        x = wide[..., 1:-1].clone(memory_format=layout_of(wide))
        x[..., :1] += wide[..., :1]
        x[..., -1:] += wide[..., -1:]
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return extend(gradients[0])
