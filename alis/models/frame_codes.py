"""Random codes and positions of frames, as training and the path-length metric draw them.

Everything is drawn from torch's global random state; `seeded` makes it a pure function of a key.
Letters: B images, K anchors of an image, L = num_ws codes per anchor, S width of a code.
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
    """Seed torch's random numbers inside the block by `key`; the random state outside is unchanged."""
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
    """Codes and positions of a batch of frames.

    Args:
        ws: codes of each frame's anchors, [B, K, L, S].
        first_B: number of each frame's first anchor.
        ranges: positions of the frames on the plane.
        centre_B: row of the anchor that path length is measured for.
        mean_w: mean code [S], for the running average of w.
    """

    ws: Tensor
    first_B: Tensor
    ranges: Ranges
    centre_B: Tensor
    mean_w: Tensor


def sample_frame_codes(
    generator: Generator, num: int, *, mixing: float, is_ramping: bool = False, frames_at: FramesAt = "patch"
) -> FrameCodes:
    """Draw codes and positions for `num` frames.

    With independent patches, shifts are uniform over 0 … max_shift − 1 in a window of three anchors (the last possible
    one is never drawn), and all 0 while the shift ramps up. With plane padding, frames may also begin at any column of
    the 4×4 block, or at any pixel (one offset within the 4×4 block's column for the whole batch), uniform over the
    plane. The centre anchor is the middle one of three, or the one nearest to the frame's middle. Style mixing is drawn
    independently for each image and anchor.
    """
    if generator.config.padding != "plane":
        # Keep the order of these draws: it makes old runs resume exactly.
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
        # Waves repeat after eight columns, anchors after anchor_columns: positions further away differ only in codes.
        column_B = torch.randint(0, math.lcm(8, config.anchor_columns), [num], device=device)
    return torch.zeros_like(column_B) if is_ramping else column_B


def _codes(generator: Generator, num: int, num_anchors: int, mixing: float) -> tuple[Tensor, Tensor]:
    """w [K·B, S] without gradient, all first anchors before all second ones; and the anchors' codes [B, K, L, S].

    A share `mixing` of the anchors gets a second code from a random layer on.
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
