"""Losses and regularisers: non-saturating logistic loss, R1, path length; hinge loss of the projected discriminator.

Letters: B images, N positions of a head's output, R side.
Source: arXiv 2104.06954 section 4; arXiv 1912.04958 section 3.2 and appendix B; arXiv 1801.04406 (R1);
arXiv 2111.01007 (hinge loss over heads).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from alis.models import Generator

DiscriminatorFn = Callable[[Tensor], Tensor]


def generator_loss(discriminator: DiscriminatorFn, fakes: Tensor) -> tuple[Tensor, Tensor]:
    """−log sigmoid D(fake); returns (mean loss, logits of fakes)."""
    logits = discriminator(fakes)
    return functional.softplus(-logits).mean(), logits.detach()


def generator_hinge(logits: Sequence[Tensor]) -> Tensor:
    """−D(fake), averaged over images and positions [B, N] of each head, then over heads."""
    return -torch.stack([head.mean() for head in logits]).mean()


def discriminator_hinge(fakes: Sequence[Tensor], reals: Sequence[Tensor]) -> Tensor:
    """max(0, 1 + D(fake)) + max(0, 1 − D(real)), averaged as in `generator_hinge`."""
    heads = zip(fakes, reals, strict=True)
    return torch.stack([(1 + fake).relu().mean() + (1 - real).relu().mean() for fake, real in heads]).mean()


def discriminator_loss(discriminator: DiscriminatorFn, fakes: Tensor, reals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """−log(1 − sigmoid D(fake)) − log sigmoid D(real); returns (mean loss, logits of fakes, logits of reals)."""
    fake_logits, real_logits = discriminator(fakes), discriminator(reals)
    loss = functional.softplus(fake_logits).mean() + functional.softplus(-real_logits).mean()
    return loss, fake_logits.detach(), real_logits.detach()


def r1_penalty(discriminator: DiscriminatorFn, reals: Tensor) -> Tensor:
    """‖∂D/∂image‖² of each real image, [B]; the loss is γ/2 times its mean."""
    reals = reals.detach().requires_grad_(True)
    (grads,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return grads.square().sum(dim=(1, 2, 3))


def path_length_loss(lengths_B: Tensor, mean: Tensor) -> Tensor:
    """Mean squared difference of the lengths from their running mean, which gets no gradient."""
    return (lengths_B - mean.detach()).square().mean()


def lazy_adam(lr: float, beta1: float, beta2: float, every: int | None) -> tuple[float, tuple[float, float]]:
    """Adam's learning rate and betas if a regulariser takes an extra step every k steps: lr·c and β^c, c = k/(k+1).

    With `every` None there is no extra step and no correction. Source: arXiv 1912.04958, appendix B.
    """
    share = 1.0 if every is None else every / (every + 1)
    return lr * share, (beta1**share, beta2**share)


def cosine_decay(images: int, total: int, end: float) -> float:
    """Factor of the learning rate after `images` of `total`: half a cosine from 1 down to `end`."""
    done = min(images / total, 1.0)
    return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2


def warm_up(images: int, total: int) -> float:
    """Factor of the generator's learning rate after `images`: a straight line from 0 to 1 over the first `total`."""
    return min(images / total, 1.0) if total else 1.0


def ema_beta(batch: int, images: int, half_life_kimg: float, ramp_up: float | None) -> float:
    """Decay of the averaged weights in one step, from the half-life in thousand images (at a batch of 32)."""
    half_life = half_life_kimg * 1000 * batch / 32
    if ramp_up is not None:
        half_life = min(half_life, images * ramp_up)
    return float(0.5 ** (batch / max(half_life, 1e-8)))


@torch.no_grad()
def update_ema(ema: Generator, generator: Generator, beta: float) -> None:
    """Update the averaged generator from the one in training; buffers are copied."""
    torch._foreach_lerp_(list(ema.parameters()), list(generator.parameters()), 1 - beta)
    torch._foreach_copy_(list(ema.buffers()), list(generator.buffers()))
