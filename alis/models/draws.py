"""Seed → codes of frames and where they stand: what training and the measure of path length draw.

Everything is drawn from torch's global random state, so `seeded` makes it a pure function of its key.
Letters: B images, L = num_ws codes an anchor, S width of a code.
Source: arXiv 2104.06954 section 4.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alis.models.generator import Generator


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
class Draw:
    """Codes of a batch's anchors [B, L, S], its places [B], and the mean centre code [S] for the running average."""

    left: Tensor
    centre: Tensor
    right: Tensor
    shift: Tensor
    mean_w: Tensor


def draw(generator: Generator, num: int, *, mixing: float, is_ramping: bool) -> Draw:
    """Fresh codes for `num` frames and where they stand.

    Places are uniform over 0 … max_shift − 1 (the last legal one is never drawn), all 0 while the shift ramps up.
    Style mixing is drawn for each image and anchor apart.
    """
    config, device = generator.config, generator.device
    z = torch.randn(3 * num, config.z_dim, device=device)
    w = generator.mapping(z)
    ws = w[:, None].expand(-1, config.num_ws, -1)
    if mixing:
        other = generator.mapping(torch.randn_like(z))
        cut = torch.randint(1, config.num_ws, [3 * num, 1], device=device)
        is_mixed = torch.rand([3 * num, 1], device=device) < mixing
        is_other = (torch.arange(config.num_ws, device=device) >= cut) & is_mixed
        ws = torch.where(is_other[:, :, None], other[:, None], ws)
    left, centre, right = ws.chunk(3)
    shift = torch.randint(0, max(config.max_shift, 1), [num], device=device)
    if is_ramping:
        shift = torch.zeros_like(shift)
    return Draw(left, centre, right, shift, w[num : 2 * num].detach().mean(dim=0))
