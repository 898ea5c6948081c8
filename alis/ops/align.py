"""SA-AdaIN: multiply every column of a feature map by its own mix of three anchors' styles.

y = x · (left·y_left + centre·y_centre + right·y_right), the shares depending on the column only.
Source: arXiv 2104.06954, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def align(x_BCHW: Tensor, styles_B3C: Tensor, shares_B3W: Tensor) -> Tensor:
    """x times its columns' styles, [B, C, H, W] in x's dtype.

    Args:
        styles_B3C: styles of the left, centre and right anchor.
        shares_B3W: share of each anchor in each column (`alis.coords.shares`).
    """
    return align_reference(x_BCHW, styles_B3C, shares_B3W)


def align_reference(x_BCHW: Tensor, styles_B3C: Tensor, shares_B3W: Tensor) -> Tensor:
    """`align` in plain PyTorch; the styles are mixed in their own dtype, then rounded to x's."""
    scale_BCW = torch.bmm(styles_B3C.transpose(1, 2), shares_B3W.to(styles_B3C.dtype))
    return x_BCHW * scale_BCW.to(x_BCHW.dtype).unsqueeze(2)
