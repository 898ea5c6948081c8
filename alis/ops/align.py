"""SA-AdaIN: multiply every column of a feature map by its own mix of anchors' styles.

y = x · Σ_a share_a · style_a, the shares depending on the column only.
Letters: B batch, A anchors (two for a patch, more for a range), C channels, H W rows and columns.
Source: arXiv 2104.06954, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alis.ops.dispatch import uses_triton


def align(x_BCHW: Tensor, styles_BAC: Tensor, shares_BAW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x times its columns' styles, [B, C, H, W] in x's dtype.

    Args:
        styles_BAC: styles of the anchors.
        shares_BAW: share of each anchor in each column (`alis.plane.ranges`), no gradient.
        out: where to write, any strides; only when no gradient is recorded.
    """
    if uses_triton(x_BCHW):
        from alis.ops.align_triton import align_triton

        return align_triton(x_BCHW, styles_BAC, shares_BAW, out=out)
    return align_reference(x_BCHW, styles_BAC, shares_BAW, out=out)


def align_reference(x_BCHW: Tensor, styles_BAC: Tensor, shares_BAW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`align` in plain PyTorch."""
    scale_BCW = beside(x_BCHW, column_styles(styles_BAC, shares_BAW).to(x_BCHW.dtype))
    return torch.mul(x_BCHW, scale_BCW.unsqueeze(2), out=out)


def beside(x_BCHW: Tensor, factor: Tensor) -> Tensor:
    """A small factor [..., C, n] stored as the map is that it will be multiplied with.

    Where channels lie next to each other in the one and far apart in the other, processors multiply number by number:
    measured on one core, 64 channels of 512×256, twice the time, and five times for waves.
    """
    is_channels_last = x_BCHW.stride(1) == 1 and x_BCHW.shape[1] > 1
    return factor.transpose(-2, -1).contiguous().transpose(-2, -1) if is_channels_last else factor


def collect(p_BCHW: Tensor, q_BCHW: Tensor, shares_BAW: Tensor, dtype: torch.dtype) -> Tensor:
    """Σ over rows and columns of share · p · q, [B, A, C] in `dtype`: the gradient of the styles."""
    if uses_triton(p_BCHW):
        from alis.ops.align_triton import collect_triton

        return collect_triton(p_BCHW, q_BCHW, shares_BAW, dtype)
    sums_BCW = (p_BCHW * q_BCHW).sum(dim=2, dtype=dtype)
    return torch.bmm(shares_BAW.to(dtype), sums_BCW.transpose(1, 2))


def column_styles(styles_BAC: Tensor, shares_BAW: Tensor) -> Tensor:
    """The mix of styles at every column, [B, C, W], in the styles' own dtype."""
    return torch.bmm(styles_BAC.transpose(1, 2), shares_BAW.to(styles_BAC.dtype))
