"""Weights of a fresh generator: where it starts.

As published, every layer's styles double the energy that goes in, and nothing takes it out again: demodulation does
not know them. So features grow from layer to layer, and a narrow network's first pictures lie far outside ±1 (standard
deviation 40 at 64 px). With `start = "unit"` styles begin nearly constant, so features keep about unit size at any
depth, and the layers to colours share what a picture holds.
Source: arXiv 1912.04958 (the published start).
"""

from __future__ import annotations

import math

import torch
from torch import nn

PUBLISHED_WIDTH = 512
# Root mean square of the styles' random part, and of a fresh picture's values where features are of unit size.
STYLE, PICTURE = 0.25, 0.7


@torch.no_grad()
def scale_wave_weights(weight_OIkk: nn.Parameter, num_before: int, num_waves: int) -> None:
    """Waves start with the share of the input that they have beside the published 512 channels.

    A narrow network is else mostly waves at its start, and keeps their lattice (docs/log.md).

    Args:
        num_before: channels of the input before the waves.
    """
    weight_OIkk[:, num_before : num_before + num_waves] *= min(num_before / PUBLISHED_WIDTH, 1.0)


@torch.no_grad()
def init_unit_style(affine: nn.Module) -> None:
    """Styles of mean square 1, nearly the same for all codes."""
    affine.get_parameter("weight").mul_(STYLE)
    affine.get_parameter("bias").fill_(math.sqrt(1 - STYLE**2))


@torch.no_grad()
def init_unit_colours(weight: nn.Parameter, num_blocks: int) -> None:
    """Pictures, the sum of all blocks' colours, of root mean square about `PICTURE`."""
    weight.mul_(PICTURE / math.sqrt(num_blocks))
