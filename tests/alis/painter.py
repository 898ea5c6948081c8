"""A small generator to paint with: random weights, scaled so that its pictures have contrast."""

from __future__ import annotations

import torch

import alis
from alis.config import ModelConfig


def tiny(
    *, seed: int = 0, resolution: int = 32, w_coord_dist: float = 4, grid_size: int = 2, **more: object
) -> alis.Generator:
    """A generator of about 60,000 weights with visible noise, contrasts and a mean code that is not zero."""
    torch.manual_seed(seed)
    config = ModelConfig(
        resolution=resolution,
        channel_base=512,
        channel_max=32,
        z_dim=32,
        w_dim=32,
        w_coord_dist=w_coord_dist,
        grid_size=grid_size,
        **more,
    )
    g = alis.Generator(config).eval().requires_grad_(False)
    for name, parameter in g.named_parameters():
        if name.endswith(("conv0.weight", "conv1.weight")):
            parameter.normal_()  # waves as loud as in a wide network
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
        if "torgb" in name and name.endswith(".weight") and "affine" not in name:
            parameter.mul_(0.5)
        if g.config.start == "unit" and "affine.weight" in name:
            parameter.mul_(2)  # codes that differ paint pictures that differ
    g.mapping.w_avg.copy_(g.map(torch.randn(256, 32)).mean(dim=0))
    return g


def seamless(**more: object) -> alis.Generator:
    """The same with plane padding and local latents."""
    told = {"padding": "plane", "local_latents": 0.5, "start": "unit", **more}
    return tiny(**told)  # type: ignore[arg-type]


def scene_columns(panorama: alis.Panorama, number: int, *, gap: int = 0) -> tuple[int, int]:
    """Pixel columns [a, b) where only scene `number` of `connect.plan` is visible."""
    step = panorama.ring_step
    first = number * (-(-(2 + gap) // step) * step) * panorama.anchor_px
    margin = (panorama.g.config.anchor_patches - panorama.g.config.grid_size) // 2 * panorama.tile_px
    return first + margin, first + margin + panorama.height
