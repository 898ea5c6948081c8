"""Random strips and frames of the endless plane, for sample pictures in training and for metrics.

Letters: B images, A anchors, L = num_ws, S width of a code, R side of a frame, g patches per frame.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from alis.models.frame_codes import sample_frame_codes
from alis.models.generator import Generator
from alis.plane.ranges import Ranges, anchors_seen


@torch.no_grad()
def strip(
    generator: Generator, num_frames: int, *, seed: int = 0, psi: float = 1.0, batch: int = 8, noise: str = "none"
) -> Tensor:
    """A panorama of `num_frames` frames side by side: float32 [3, R, R·num_frames] in about [-1, 1].

    Args:
        batch: number of frames painted at once.
        noise: 'none', 'const' or 'random', drawn again for each `batch` frames.
    """
    config, device = generator.config, generator.device
    # With plane padding, the first and last frames depend on columns beyond them.
    beside = 2 if config.padding == "plane" else 0
    num_anchors = 2 * ((num_frames * config.grid_size - 1) // config.window_patches) + 3 + 2 * beside
    z_AZ = torch.randn([num_anchors, config.z_dim], generator=torch.Generator().manual_seed(seed))
    w_AS = generator.map(z_AZ.to(device), psi)
    ws_1ALS = w_AS[None, :, None].expand(-1, -1, config.num_ws, -1)
    parts = []
    for start in range(0, num_frames, batch):
        width = (min(start + batch, num_frames) - start) * config.resolution
        column_1, first_1, seed_1 = (torch.tensor([value], device=device) for value in (4 * start, -beside, seed))
        parts.append(generator.frames(ws_1ALS, first_1, Ranges(column_1, width, seed_B=seed_1), noise=noise)[0].cpu())
    return torch.cat(parts, dim=2)


@torch.no_grad()
def frames_anywhere(generator: Generator, num: int, *, seed: int, psi: float = 1.0, around_px: int = 0) -> Tensor:
    """Frames [B, 3, R, R] cropped at random columns from `num` different endless panoramas, with random noise.

    The left border is uniform over the columns of one period of the plane (two anchors), so a frame may cross patch
    borders, anchors and windows. A pure function of (weights, seed, psi, num, around_px).

    Args:
        around_px: where on the plane that period begins, rounded to a whole number of periods.
    """
    config, device, size = generator.config, generator.device, generator.config.resolution
    # Painted slightly wider, from the patch border before, and cropped.
    border = size // 4 if config.padding == "plane" else size // config.grid_size
    period = math.lcm(8, config.anchor_columns) if config.padding == "plane" else 2 * config.anchor_columns
    with _seeded(generator, seed):
        z = torch.randn(num * 5, config.z_dim)
        left = torch.randint(0, period * size // 4, [num])
        column_B = (left // border) * (4 * border // size) + around_px * 4 // size // period * period
        seed_B = torch.randint(0, 2**53, [num]) if config.local_latents else torch.zeros_like(left)
        ranges = Ranges(column_B.to(device), size + border, seed_B=seed_B.to(device))
        first_B = torch.zeros_like(ranges.column_B)
        num_anchors = 5
        if config.padding == "plane":
            seen = anchors_seen(config, ranges)
            first_B, num_anchors = seen.first_B, seen.num
            z = torch.cat([z, torch.randn(max(num_anchors - 5, 0) * num, config.z_dim)])[: num_anchors * num]
        ws = generator.map(z.to(device), psi).view(num, num_anchors, 1, -1).expand(-1, -1, config.num_ws, -1)
        wide = generator.frames(ws, first_B, ranges, noise="random")
    offset = (left % border).to(device)
    columns = offset[:, None] + torch.arange(size, device=device)
    return wide.gather(3, columns[:, None, None, :].expand(-1, wide.shape[1], size, -1))


@torch.no_grad()
def frames_aligned(generator: Generator, num: int, *, seed: int, psi: float = 1.0) -> Tensor:
    """Frames [B, 3, R, R] at the positions that training uses, with random noise.

    They begin at patch borders; with plane padding at any pixel (one offset within the 4×4 block's column for all).
    """
    config, device = generator.config, generator.device
    with _seeded(generator, seed):
        if config.padding == "plane":
            drawn = sample_frame_codes(generator, num, mixing=0.0, frames_at="pixel")
            ws = drawn.ws if psi == 1 else generator.mapping.w_avg.lerp(drawn.ws, psi)
            return generator.frames(ws, drawn.first_B, drawn.ranges, noise="random")
        z = torch.randn(3 * num, config.z_dim)
        shift = torch.randint(0, max(config.max_shift, 1), [num]).to(device)
        left, centre, right = generator.map(z.to(device), psi).chunk(3)
        return generator(left, centre, right, shift, noise="random")


@contextlib.contextmanager
def _seeded(generator: Generator, seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[generator.device] if generator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] → 0 … 255, uint8, same shape."""
    return (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
