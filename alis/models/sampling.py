"""Anchors' codes → strips and frames at any place of the endless plane, for training's pictures and for metrics.

A window is three anchors wide and moves two anchors on, as the published walk does: absolute patch k lies in
window k // window_patches at place k mod window_patches, under anchors 2t, 2t + 1, 2t + 2.
Letters: B images, A anchors, L = num_ws, S width of a code, R side of a frame, g patches a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alis.models import Generator


@torch.no_grad()
def strip(generator: Generator, num_frames: int, *, seed: int = 0, psi: float = 1.0, batch: int = 16) -> Tensor:
    """One panorama of `num_frames` frames side by side, float32 [3, R, R·num_frames] in about [-1, 1], no noise."""
    config = generator.config
    patches = torch.arange(num_frames * config.grid_size)
    num_anchors = 2 * int(patches[-1] // config.window_patches) + 3
    w_AS = generator.map(_z(generator, num_anchors, seed), psi)
    ws_ALS = w_AS[:, None].expand(-1, config.num_ws, -1)
    parts = []
    for some in patches.split(batch):
        parts += list(_patches(generator, ws_ALS[None], torch.zeros_like(some), some, "none").cpu())
    return torch.cat(parts, dim=2)


@torch.no_grad()
def frames_anywhere(generator: Generator, num: int, *, seed: int, psi: float = 1.0) -> Tensor:
    """Frames [B, 3, R, R] cut at random columns of `num` different endless panoramas, fresh noise.

    The left border is uniform over the columns of one period of the plane (two anchors), so a frame may lie
    across patch borders, anchors and windows. A pure function of (weights, seed, psi, num).
    """
    config, size = generator.config, generator.config.resolution
    width, g = size // config.grid_size, config.grid_size
    with torch.random.fork_rng(devices=[generator.device] if generator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        z = torch.randn(num * 5, config.z_dim)
        left = torch.randint(0, config.window_patches * width, [num])
        ws = generator.map(z.to(generator.device), psi).view(num, 5, 1, -1).expand(-1, -1, config.num_ws, -1)
        panorama = torch.arange(num).repeat_interleave(g + 1)
        patch = (left // width).repeat_interleave(g + 1) + torch.arange(g + 1).repeat(num)
        pictures = _patches(generator, ws, panorama, patch, "random")
    wide = torch.cat(list(pictures.unflatten(0, (num, g + 1)).unbind(1)), dim=3)
    offset = (left % width).to(wide.device)
    columns = offset[:, None] + torch.arange(size, device=wide.device)
    return wide.gather(3, columns[:, None, None, :].expand(-1, 3, size, -1))


@torch.no_grad()
def frames_aligned(generator: Generator, num: int, *, seed: int, psi: float = 1.0) -> Tensor:
    """Frames [B, 3, R, R] as training sees them: at patch borders of fresh windows, fresh noise."""
    config = generator.config
    with torch.random.fork_rng(devices=[generator.device] if generator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        z = torch.randn(3 * num, config.z_dim)
        shift = torch.randint(0, max(config.max_shift, 1), [num]).to(generator.device)
        left, centre, right = generator.map(z.to(generator.device), psi).chunk(3)
        return generator(left, centre, right, shift, noise="random")


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] → 0 … 255, uint8, same shape."""
    return (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def _patches(generator: Generator, ws_NALS: Tensor, panorama_P: Tensor, patch_P: Tensor, noise: str) -> Tensor:
    """Pictures of absolute patches ≥ 0 of N panoramas: [P, 3, R, R/g]."""
    span, device = generator.config.window_patches, ws_NALS.device
    num_anchors = ws_NALS.shape[1]
    first = 2 * (patch_P // span)
    anchors = first[:, None] + torch.arange(3) + (panorama_P * num_anchors)[:, None]
    return generator.synthesis.patches(
        ws_NALS.flatten(0, 1), (patch_P % span).to(device), anchors_P3=anchors.to(device), noise=noise
    )


def _z(generator: Generator, num: int, seed: int) -> Tensor:
    z = torch.randn([num, generator.config.z_dim], generator=torch.Generator().manual_seed(seed))
    return z.to(generator.device)
