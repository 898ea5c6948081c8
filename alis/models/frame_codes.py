"""Seed → codes of frames and where they stand: what training and the measure of path length draw.

Everything is drawn from torch's global random state, so `seeded` makes it a pure function of its key.
Letters: B images, K anchors of an image, L = num_ws codes an anchor, S width of a code.
Source: arXiv 2104.06954 section 4.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from alis.models.generator import Generator
from alis.plane.ranges import Ranges, anchors_seen

FramesAt = Literal["patch", "column", "pixel"]


@contextlib.contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Make everything random inside a function of `key`; the random state outside is left as it was."""
    mixed = 0
    for part in key:  # splitmix64 over the parts
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed >> 1)
        yield


@dataclass
class FrameCodes:
    """Codes of a batch's anchors [B, K, L, S], the number of each first one, where the frames stand, and the mean code.

    `centre_B` is the row of the anchor that path length looks at; `mean_w` [S] is for the running average of w.
    """

    ws: Tensor
    first_B: Tensor
    ranges: Ranges
    centre_B: Tensor
    mean_w: Tensor


def sample_frame_codes(
    generator: Generator, num: int, *, mixing: float, is_ramping: bool = False, frames_at: FramesAt = "patch"
) -> FrameCodes:
    """Fresh codes for `num` frames and where they stand.

    At patches, places are uniform over 0 … max_shift − 1 of a window of three anchors (the last legal one is never
    drawn), all 0 while the shift ramps up. Where filters see the plane, frames may as well stand at any column of the
    4×4 block, or at any pixel (one offset within that block for the whole batch), uniform over the plane. The centre
    is the middle anchor of three, or the one nearest to the frame's middle. Style mixing is drawn for each image and
    anchor apart.
    """
    if generator.config.padding != "plane":
        # The order of the draws is that of runs begun long ago.
        w, ws_BKLS = _codes(generator, num, 3, mixing)
        column_B = _columns(generator, num, is_ramping, "patch")
        ranges = Ranges(column_B, generator.config.resolution)
        return FrameCodes(
            ws_BKLS, torch.zeros_like(column_B), ranges, torch.ones_like(column_B), w[num : 2 * num].mean(dim=0)
        )
    config, n = generator.config, generator.config.anchor_columns
    column_B = _columns(generator, num, is_ramping, frames_at)
    sub = int(torch.randint(0, config.resolution // 4, [])) if frames_at == "pixel" and not is_ramping else 0
    seed_B = torch.randint(0, 2**53, [num], device=generator.device)
    ranges = Ranges(column_B, config.resolution, sub, seed_B=seed_B)
    seen = anchors_seen(config, ranges)
    middle_B = column_B + 2 + sub * 4 // config.resolution
    centre_B = torch.div(2 * middle_B + n, 2 * n, rounding_mode="floor") - seen.first_B
    w, ws_BKLS = _codes(generator, num, seen.num, mixing)
    return FrameCodes(ws_BKLS, seen.first_B, ranges, centre_B, w[num : 2 * num].mean(dim=0))


def _columns(generator: Generator, num: int, is_ramping: bool, frames_at: FramesAt) -> Tensor:
    """Columns of the 4×4 block where frames begin, int64 [B]."""
    config, device = generator.config, generator.device
    if frames_at == "patch":
        column_B = torch.randint(0, max(config.max_shift, 1), [num], device=device) * (4 // config.grid_size)
    else:
        # Waves repeat after eight columns, anchors after anchor_columns: further away nothing is new but the codes.
        column_B = torch.randint(0, math.lcm(8, config.anchor_columns), [num], device=device)
    return torch.zeros_like(column_B) if is_ramping else column_B


def _codes(generator: Generator, num: int, num_anchors: int, mixing: float) -> tuple[Tensor, Tensor]:
    """w [K·B, S] without gradient, all first anchors before all second ones, and what stands at them, [B, K, L, S].

    A share `mixing` of them takes a second code from some layer on.
    """
    config, device = generator.config, generator.device
    num_all = num_anchors * num
    z = torch.randn(num_all, config.z_dim, device=device)
    w = generator.mapping(z)
    ws = w[:, None].expand(-1, config.num_ws, -1)
    if mixing:
        other = generator.mapping(torch.randn_like(z))
        cut = torch.randint(1, config.num_ws, [num_all, 1], device=device)
        is_mixed = torch.rand([num_all, 1], device=device) < mixing
        is_other = (torch.arange(config.num_ws, device=device) >= cut) & is_mixed
        ws = torch.where(is_other[:, :, None], other[:, None], ws)
    return w.detach(), ws.unflatten(0, (num_anchors, num)).transpose(0, 1)
