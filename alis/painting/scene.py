"""The scene of a code: the frame midway between two anchors that both have the code, as `alis connect` paints it.

Where a model draws local latents (`alis.plane.latents`), the same code paints a different picture at every position.
Letters: B codes, L layers, S style channels, R side of a frame, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alis.models import Generator
from alis.plane.ranges import Ranges

_NUM_POSITIONS = 4


def margin(g: Generator) -> int:
    """Number of patches between an anchor and the scene's frame."""
    return max((g.config.anchor_patches - g.config.grid_size) // 2, 0)


def num_positions(g: Generator) -> int:
    """Number of positions on the plane that a search averages over: 1 for models without local latents."""
    return _NUM_POSITIONS if g.config.local_latents else 1


def encodes_positions(g: Generator) -> bool:
    """Whether a code can decide where along x a shape is, by waves along x that local latents don't replace."""
    return g.config.local_latents < 1


def scene(g: Generator, w_BLS: Tensor, seed: int = 0) -> Tensor:
    """Frames [B, 3, R, R] midway between two anchors that have the same code, without noise.

    Args:
        seed: of the plane that provides the local latents.
    """
    return _paint_between(g, w_BLS, seed, margin(g), 0)


def scene_in_context(g: Generator, w_BLS: Tensor, seed: int = 0) -> Tensor:
    """The whole range between two anchors of the same code, [B, 3, R, W]: the scene and `margin` patches each side."""
    return _paint_between(g, w_BLS, seed, 0, margin(g))


def _paint_between(g: Generator, w_BLS: Tensor, seed: int, start: int, num_side_patches: int) -> Tensor:
    """Paint a frame with `num_side_patches` patches on either side, starting `start` patches right of anchor 0."""
    num, patch = len(w_BLS), g.config.resolution // g.config.grid_size
    column_B = torch.full([num], start * 4 // g.config.grid_size, device=g.device)
    width = g.config.resolution + 2 * num_side_patches * patch
    ranges = Ranges(column_B, width, seed_B=torch.full_like(column_B, seed))
    return g.frames(w_BLS[:, None].expand(-1, 2, -1, -1), torch.zeros_like(column_B), ranges)
