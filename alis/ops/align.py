"""SA-AdaIN: multiply every column of a feature map by its own interpolation of the anchors' styles.

y = x · Σ_a share_a · style_a, where shares depend only on the column.
Letters: B batch, A anchors (two for a patch, more for a range), C channels, H W rows and columns.
Source: arXiv 2104.06954, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alis.ops.dispatch import uses_triton


def align(x_BCHW: Tensor, styles_BAC: Tensor, shares_BAW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x times the styles of its columns, [B, C, H, W] in x's dtype.

    Args:
        styles_BAC: styles of the anchors.
        shares_BAW: share of each anchor in each column (`alis.plane.ranges`); gets no gradient.
        out: where to write the result, with any strides; only allowed while no gradient is recorded.
    """
    if uses_triton(x_BCHW):
        from alis.ops.align_triton import align_triton

        return align_triton(x_BCHW, styles_BAC, shares_BAW, out=out)
    return align_reference(x_BCHW, styles_BAC, shares_BAW, out=out)


def align_reference(x_BCHW: Tensor, styles_BAC: Tensor, shares_BAW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`align` in plain PyTorch."""
    scale_BCW = match_layout(x_BCHW, column_styles(styles_BAC, shares_BAW).to(x_BCHW.dtype))
    return torch.mul(x_BCHW, scale_BCW.unsqueeze(2), out=out)


def match_layout(x_BCHW: Tensor, factor: Tensor) -> Tensor:
    """A small factor [..., C, n] in the memory format of the map that it will be multiplied with.

    If only one of them is channels-last, CPUs multiply number by number: twice the time measured on one core, for 64
    channels of 512×256, and five times for waves.
    """
    is_channels_last = x_BCHW.stride(1) == 1 and x_BCHW.shape[1] > 1
    return factor.transpose(-2, -1).contiguous().transpose(-2, -1) if is_channels_last else factor


def style_gradient(p_BCHW: Tensor, q_BCHW: Tensor, shares_BAW: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of the styles: Σ over rows and columns of share · p · q, [B, A, C] in `dtype`."""
    if uses_triton(p_BCHW):
        from alis.ops.align_triton import style_gradient_triton

        return style_gradient_triton(p_BCHW, q_BCHW, shares_BAW, dtype)
    sums_BCW = (p_BCHW * q_BCHW).sum(dim=2, dtype=dtype)
    return torch.bmm(shares_BAW.to(dtype), sums_BCW.transpose(1, 2))


def column_styles(styles_BAC: Tensor, shares_BAW: Tensor) -> Tensor:
    """The interpolated style of every column, [B, C, W], in the styles' dtype."""
    return torch.bmm(styles_BAC.transpose(1, 2), shares_BAW.to(styles_BAC.dtype))
