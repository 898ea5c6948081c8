"""What each network is paid for: non-saturating logistic loss, R1, path length; codes mixed, frames placed.

Every function draws its codes and places from torch's global random state, so `seeded` makes it a pure function
of (run, images, microbatch, phase): resuming and changing the number of processes change nothing.
Letters: B images, L = num_ws codes an anchor, S width of a code, R side.
Source: arXiv 2104.06954 section 4; arXiv 1912.04958 section 3.2 and appendix B; arXiv 1801.04406 (R1).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from alis.models import Generator

Paint = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Judge = Callable[[Tensor], Tensor]


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


def generator_loss(paint: Paint, judge: Judge, codes: Draw) -> tuple[Tensor, Tensor]:
    """(loss, logits of fakes): −log sigmoid D(G(w))."""
    logits = judge(paint(codes.left, codes.centre, codes.right, codes.shift))
    return functional.softplus(-logits).mean(), logits.detach()


def discriminator_loss(judge: Judge, fakes: Tensor, reals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, logits of fakes, logits of reals): −log(1 − sigmoid D(fake)) − log sigmoid D(real)."""
    fake_logits, real_logits = judge(fakes), judge(reals)
    loss = functional.softplus(fake_logits).mean() + functional.softplus(-real_logits).mean()
    return loss, fake_logits.detach(), real_logits.detach()


def r1_penalty(judge: Judge, reals: Tensor) -> Tensor:
    """‖∂D/∂image‖² of each real image, [B]; the loss is γ/2 times its mean."""
    reals = reals.detach().requires_grad_(True)
    (grads,) = torch.autograd.grad(judge(reals).sum(), reals, create_graph=True)
    return grads.square().sum(dim=(1, 2, 3))


def path_lengths(paint: Paint, codes: Draw, noise_B3RR: Tensor | None = None) -> Tensor:
    """‖Jᵀy‖ of each image with respect to its centre codes alone, [B]: root of the mean over layers of the squares.

    Args:
        noise_B3RR: y, already divided by R; by default drawn.
    """
    centre = codes.centre if codes.centre.requires_grad else codes.centre.detach().requires_grad_(True)
    images = paint(codes.left, centre, codes.right, codes.shift)
    if noise_B3RR is None:
        noise_B3RR = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (grads,) = torch.autograd.grad((images * noise_B3RR).sum(), centre, create_graph=True)
    return grads.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_loss(lengths_B: Tensor, mean: Tensor) -> Tensor:
    """Mean squared distance of the lengths from their running mean, which counts as a constant."""
    return (lengths_B - mean.detach()).square().mean()


def lazy_adam(lr: float, beta1: float, beta2: float, every: int | None) -> tuple[float, tuple[float, float]]:
    """Adam's rate and betas when a regulariser takes an extra step every k: c = k/(k+1), lr·c and β^c.

    Source: arXiv 1912.04958, appendix B. `every` None: no extra step, no correction.
    """
    share = 1.0 if every is None else every / (every + 1)
    return lr * share, (beta1**share, beta2**share)


def ema_beta(batch: int, images: int, half_life_kimg: float, ramp_up: float | None) -> float:
    """How much of the average stays in one step, when half of it is to be left after the half life."""
    half_life = half_life_kimg * 1000 * batch / 32
    if ramp_up is not None:
        half_life = min(half_life, images * ramp_up)
    return float(0.5 ** (batch / max(half_life, 1e-8)))


@torch.no_grad()
def average(ema: Generator, generator: Generator, beta: float) -> None:
    """Move the averaged generator towards the one in training; buffers are copied."""
    for mean, value in zip(ema.parameters(), generator.parameters(), strict=True):
        mean.lerp_(value, 1 - beta)
    for kept, buffer in zip(ema.buffers(), generator.buffers(), strict=True):
        kept.copy_(buffer)
