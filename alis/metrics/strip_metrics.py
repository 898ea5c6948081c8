"""Metrics of painted strips that match what the eye sees: seams at patch borders, and repeating patterns.

Neither needs features. Both can be measured on real pictures too: a good generator has the same values as they have.
Letters: N strips, H rows, W columns, R side of a frame, P = R/g columns of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alis.data import Catalogue, Fit, Loader, RankSlice, ReadOptions
from alis.errors import InputError
from alis.models import Generator, sampling
from alis.models.frame_codes import seeded
from alis.progress import Advance, no_progress

FRAMES = 8  # per strip
_LUMA = (0.299, 0.587, 0.114)


def luma(images_N3HW: Tensor) -> Tensor:
    """Luma [N, H, W], in the images' own range."""
    weights = torch.tensor(_LUMA, dtype=images_N3HW.dtype, device=images_N3HW.device)
    return (images_N3HW * weights[:, None, None]).sum(dim=1)


def seam(images_N3HW: Tensor, patch_px: int) -> float:
    """Mean |Δluma| between neighbouring columns at patch borders, over that inside patches; 1 = no visible borders.

    Raises:
        InputError: pictures no wider than a patch.
    """
    if images_N3HW.shape[3] <= patch_px:
        raise InputError(
            f"pictures {images_N3HW.shape[3]} px wide have no border of patches of {patch_px} px",
            hint="give wider ones",
        )
    step_W = luma(images_N3HW).diff(dim=2).abs().mean(dim=(0, 1)).double()
    is_border_W = torch.arange(1, images_N3HW.shape[3], device=step_W.device) % patch_px == 0
    return float(step_W[is_border_W].mean() / step_W[~is_border_W].mean().clamp(min=1e-12))


def repetition(strips_N3HW: Tensor, resolution: int, patch_px: int) -> float:
    """Share of the horizontal power at periods under two patches that repeats in every patch of a strip.

    This is the power at harmonics of the patch's period, which include all coordinate waves shorter than two patches. A
    strip of K patches without repetition has about 1/K there, a regular lattice almost all. Mean and slope are removed
    from each frame's rows first, so that real frames side by side can be measured in the same way.

    Raises:
        InputError: strips that are not several whole frames.
    """
    width = strips_N3HW.shape[3]
    if width % resolution or width <= resolution:
        raise InputError(
            f"strips {width} px wide are not frames of {resolution} px", hint="give at least two whole frames"
        )
    frames_NHKR = luma(strips_N3HW).double().unflatten(2, (-1, resolution))
    way_R = torch.linspace(-1, 1, resolution, dtype=torch.float64, device=frames_NHKR.device)
    slope = (frames_NHKR * way_R).sum(dim=3, keepdim=True) / way_R.square().sum()
    flat_NHW = (frames_NHKR - frames_NHKR.mean(dim=3, keepdim=True) - slope * way_R).flatten(2)
    power_F = torch.fft.rfft(flat_NHW).abs().square().mean(dim=(0, 1))
    bin_F = torch.arange(len(power_F), device=power_F.device)
    is_short_F = bin_F * 2 * patch_px > width
    is_harmonic_F = bin_F % (width // patch_px) == 0
    return float(power_F[is_short_F & is_harmonic_F].sum() / power_F[is_short_F].sum().clamp(min=1e-12))


def painted_strips(
    generator: Generator, num: int, *, seed: int, psi: float = 1.0, advance: Advance = no_progress
) -> Tensor:
    """Painted strips of eight frames, each of another plane, with random noise: [N, 3, R, 8·R] on the CPU."""
    strips = []
    for number in range(num):
        own = seed * 1_000_003 + number
        with seeded(own):
            strips.append(sampling.strip(generator, FRAMES, seed=own, psi=psi, noise="random"))
        advance(1)
    return torch.stack(strips)


def real_strips(catalogue: Catalogue, resolution: int, num: int, *, fit: Fit = "resize", threads: int = 2) -> Tensor:
    """Strips of eight real frames side by side: [N, 3, R, 8·R] in [-1, 1]; fewer if there are fewer pictures."""
    found: list[Tensor] = []
    stop = min(num * FRAMES, catalogue.num_images)
    share, reading = RankSlice(FRAMES, FRAMES, 0, 1), ReadOptions(fit=fit, threads=threads, num_lanes=1)
    with Loader(catalogue, resolution, share, reading, stop=stop) as loader:
        for images_BHWC in loader:
            found += [image.permute(2, 0, 1).float() / 127.5 - 1 for image in images_BHWC]
    whole = len(found) // FRAMES * FRAMES
    if not whole:
        raise InputError(f"{len(found)} real pictures are too few for a strip", hint=f"give at least {FRAMES}")
    strips = [torch.cat(found[k : k + FRAMES], dim=2) for k in range(0, whole, FRAMES)]
    return torch.stack(strips)
