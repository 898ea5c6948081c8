"""Path lengths: how strongly a picture changes with its centre codes; for the regulariser and the metric.

Letters: B images, R side. Source: arXiv 1912.04958 section 3.2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from alis.models.frame_codes import FrameCodes

Paint = Callable[[FrameCodes], Tensor]


def path_lengths(paint: Paint, codes: FrameCodes, noise_B3RR: Tensor | None = None) -> Tensor:
    """‖Jᵀy‖ of each image with respect to its centre codes only, [B]: root mean square over layers.

    Args:
        noise_B3RR: y, already divided by R; by default random.
    """
    ws_BKLS = codes.ws
    is_centre_BK = torch.arange(ws_BKLS.shape[1], device=ws_BKLS.device) == codes.centre_B[:, None]
    centre_BLS = ws_BKLS[is_centre_BK]
    if not centre_BLS.requires_grad:
        centre_BLS = centre_BLS.detach().requires_grad_(True)
    ws_BKLS = torch.where(is_centre_BK[:, :, None, None], centre_BLS[:, None], ws_BKLS)
    images = paint(dataclasses.replace(codes, ws=ws_BKLS))
    if noise_B3RR is None:
        noise_B3RR = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (grads,) = torch.autograd.grad((images * noise_B3RR).sum(), centre_BLS, create_graph=True)
    return grads.square().sum(dim=2).mean(dim=1).sqrt()
