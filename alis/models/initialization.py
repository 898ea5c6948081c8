"""Initial weights of a fresh generator.

In the published initialisation, every layer's styles double the energy of the features, and demodulation, which ignores
styles, does not undo that. So features grow from layer to layer, and a narrow network's first pictures are far outside
±1 (standard deviation 40 at 64 px). With `start = "unit"`, styles start nearly constant, so features keep about unit
size at any depth, and the ToRGB layers of all blocks contribute equally to the picture.
Source: arXiv 1912.04958 (the published initialisation).
"""

from __future__ import annotations

import math

import torch
from torch import nn

PUBLISHED_WIDTH = 512
# Root mean square of the styles' random part, and of an untrained picture's values if features have unit size.
STYLE, PICTURE = 0.25, 0.7


@torch.no_grad()
def scale_wave_weights(weight_OIkk: nn.Parameter, num_before: int, num_waves: int) -> None:
    """Scale down the waves' weights, so that waves start with the same share of the input as beside 512 channels.

    Otherwise a narrow network's input is mostly waves at first, and their lattice stays visible (docs/log.md).

    Args:
        num_before: number of input channels before the waves.
    """
    weight_OIkk[:, num_before : num_before + num_waves] *= min(num_before / PUBLISHED_WIDTH, 1.0)


@torch.no_grad()
def init_unit_style(affine: nn.Module) -> None:
    """Initialise an affine layer so that styles have mean square 1 and are nearly the same for all codes."""
    affine.get_parameter("weight").mul_(STYLE)
    affine.get_parameter("bias").fill_(math.sqrt(1 - STYLE**2))


@torch.no_grad()
def init_unit_colours(weight: nn.Parameter, num_blocks: int) -> None:
    """Scale a ToRGB weight so that pictures, the sum over all blocks, have a root mean square of about `PICTURE`."""
    weight.mul_(PICTURE / math.sqrt(num_blocks))
