"""Find the code whose scene is most similar to a photograph, by gradient descent.

First, in W, one style vector for all layers: the most similar of 256 random scenes are optimised for a while, then only
the best. Then, in W+, one style vector per layer, with a penalty on differences between layers. Distances are those of
`alis.painting.perceptual_distance`. What is beside the square in the photograph counts a little, so that the
landscape continues it.

If the model draws local latents, each step paints at another of a few positions, so that the code doesn't learn the
texture of one position.
Letters: T starting codes, B codes, L layers, S style channels, R side of a frame, W columns.
Source: arXiv 1904.03189 (W+), arXiv 1912.04958 appendix D (projection).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alis.errors import InputError, RunError
from alis.models import Discriminator, Generator
from alis.painting.perceptual_distance import Features, PerceptualDistance
from alis.painting.scene import num_positions, scene, scene_in_context
from alis.plane.anchors import check_seed

SPACES = ("w", "w+")
_NUM_RANDOM_SCENES, _BATCH = 256, 16
_LEARNING_RATE = 0.06
_LAYER_PENALTY = 0.02
_CONTEXT_WEIGHT = 0.4

OnStep = Callable[[Tensor, float], None]
"""Called after each step with the best present frame [3, R, R] and the least distance so far."""


@dataclass(frozen=True)
class SearchOptions:
    """How to search for a code.

    Args:
        space: "w": one style vector for all layers, always a scene the model could draw; or "w+": one per layer, which
            comes closer to the photograph.
        steps: number of optimisation steps; 300 is usual.
        seed: of the random scenes the search starts from.
        tries: how many of the most similar random scenes are optimised at first; the search continues with the best.

    Raises:
        InputError: a value out of range.
    """

    space: str = "w+"
    steps: int = 300
    seed: int = 0
    tries: int = 4

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise InputError(f"space {self.space!r} is unknown", hint='use "w" or "w+"')
        if not 1 <= self.steps <= 100_000:
            raise InputError(f"{self.steps} steps", hint="use 1 to 100000; 300 is usual")
        check_seed(self.seed)
        if not 1 <= self.tries <= _NUM_RANDOM_SCENES:
            raise InputError(f"{self.tries} tries", hint=f"use 1 to {_NUM_RANDOM_SCENES}; 4 is usual")


class CodeSearch:
    """Search for the code of one photograph.

    Args:
        photo_3RW: from `read_photo`: [3, R, R], or with further columns on both sides.
        d: the model's discriminator, if available, for the distance.
        efficientnet: pretrained features, if available, for the distance.
    """

    def __init__(self, g: Generator, photo_3RW: Tensor, d: Discriminator | None, efficientnet: Features | None) -> None:
        self.g, self.size = g, g.config.resolution
        photo_3RW = photo_3RW.to(g.device)
        self.width = photo_3RW.shape[2]
        self.num_side_columns = (self.width - self.size) // 2
        self.photo_3RR = photo_3RW[:, :, self.num_side_columns : self.num_side_columns + self.size]
        self.photo_distance = PerceptualDistance(self.photo_3RR, d, efficientnet)
        self.context_distance = PerceptualDistance(photo_3RW) if self.num_side_columns else None
        self.w_std, self.num_positions = 1.0, num_positions(g)

    def starting_codes(self, seed: int, num: int) -> tuple[Tensor, float]:
        """(codes [num, S] whose scenes are most similar, among 256 random ones and the mean; the least distance)."""
        g, random = self.g, torch.Generator().manual_seed(seed)
        with torch.no_grad():
            w_NS = g.map(torch.randn(_NUM_RANDOM_SCENES, g.config.z_dim, generator=random).to(g.device))
            w_NS = torch.cat([g.mapping.w_avg[None], w_NS])
            self.w_std = float((w_NS - w_NS.mean(dim=0)).square().mean().sqrt())
            w_NLS = w_NS[:, None].expand(-1, g.num_ws, -1)
            distances = torch.cat([self.photo_distance(scene(g, w_BLS)) for w_BLS in torch.split(w_NLS, _BATCH)])
        best = distances.argsort()[:num]
        return w_NS[best].clone(), float(distances[best[0]])

    def distance(self, w_BLS: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Distances from the photograph [B] and frames [B, 3, R, R], painted on the plane of this seed."""
        wide = scene_in_context(self.g, w_BLS, seed) if self.context_distance else scene(self.g, w_BLS, seed)
        frames = wide[..., self.num_side_columns : self.num_side_columns + self.size]
        distance = self.photo_distance(frames)
        if self.context_distance:
            distance = distance + _CONTEXT_WEIGHT * self.context_distance(wide[..., : self.width])
        return distance, frames

    def optimise(
        self, parameters: list[Tensor], make_codes: Callable[[], Tensor], steps: int, on_step: OnStep
    ) -> tuple[Tensor, Tensor]:
        """Run Adam on the parameters of B codes; return the least distances [B] and their codes [B, L, S].

        Each step paints at the next position; a code's distance is the mean of the last steps, one per position.

        Args:
            make_codes: computes the codes [B, L, S] from the parameters.
        """
        optimizer = torch.optim.Adam(parameters, lr=1, betas=(0.9, 0.999))
        with torch.no_grad():
            best_BLS = make_codes().clone()
        least = torch.full([len(best_BLS)], math.inf, device=best_BLS.device)
        recent: deque[Tensor] = deque(maxlen=min(self.num_positions, max(steps, 1)))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = self._learning_rate(step / steps)
            w_BLS = make_codes()
            distance, frames = self.distance(w_BLS, step % self.num_positions)
            if not bool(distance.isfinite().all()):
                raise RunError(f"the search diverged at step {step}", hint="try --space w, or another --seed")
            recent.append(distance.detach())
            mean = torch.stack(list(recent)).mean(dim=0)
            is_better = (mean < least) & (len(recent) == recent.maxlen)
            least = torch.where(is_better, mean, least)
            best_BLS = torch.where(is_better[:, None, None], w_BLS.detach(), best_BLS)
            optimizer.zero_grad()
            layer_variance = (w_BLS - w_BLS.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
            torch.autograd.backward((distance + _LAYER_PENALTY * layer_variance / self.w_std**2).sum())
            optimizer.step()
            on_step(frames[int(distance.detach().argmin())].detach(), float(least.min()))
        return least, best_BLS

    def _learning_rate(self, progress: float) -> float:
        """Warm-up over the first 5 %, then cosine decay to 0; `progress` is in 0 … 1."""
        rate = _LEARNING_RATE * self.w_std * math.sqrt(self.g.config.w_dim / 512)
        return rate * min(1, progress * 20 + 0.1) * (1 + math.cos(math.pi * progress)) / 2

    def find(self, start_TS: Tensor, options: SearchOptions, on_step: OnStep) -> Tensor:
        """Optimise starting codes [T, S] to one code [L, S]: first all of them, then the best, then layer by layer."""
        steps_in_w = options.steps if options.space == "w" else max(options.steps * 2 // 5, 1)
        steps_of_all = steps_in_w // 2 if len(start_TS) > 1 else 0

        def for_all_layers(w_TS: Tensor) -> Callable[[], Tensor]:
            return lambda: w_TS[:, None].expand(-1, self.g.num_ws, -1)

        if steps_of_all:
            start_TS.requires_grad_()
            least, w_TLS = self.optimise([start_TS], for_all_layers(start_TS), steps_of_all, on_step)
            start_TS = w_TLS[int(least.argmin()), :1]
        w_1S = start_TS[:1].detach().clone().requires_grad_()
        _, w_1LS = self.optimise([w_1S], for_all_layers(w_1S), steps_in_w - steps_of_all, on_step)
        if options.space == "w+" and options.steps > steps_in_w:
            base_1S = w_1LS[0, :1].clone().requires_grad_()
            offset_LS = torch.zeros_like(w_1LS[0]).requires_grad_()
            steps = options.steps - steps_in_w
            _, w_1LS = self.optimise([base_1S, offset_LS], lambda: (base_1S + offset_LS)[None], steps, on_step)
        return w_1LS[0]
