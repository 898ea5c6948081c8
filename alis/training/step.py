"""One training step in its four phases: each draws its own codes, accumulates, sums over processes, descends.

A step's images are cut into `num_micro` microbatches; this process owns j = rank, rank + world, … Everything
random in a phase is seeded by (run's seed, images seen, j, phase), so what is computed does not depend on how
many processes share the step, but for the order of sums.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from alis import dist
from alis.models import Discriminator, Generator, draws, path_length
from alis.training import losses
from alis.training.augment import Augment
from alis.training.recipe import TrainConfig
from alis.training.state import State

G_MAIN, G_PATH, D_MAIN, D_R1, MIRROR = range(5)
Phase = Callable[[int], tuple[Tensor, Tensor, Tensor]]


def build(config: TrainConfig, device: torch.device) -> State:
    """Networks and optimisers at their start, a function of the seed alone. `config` is resolved."""
    optim, loss = config.optim, config.loss
    assert optim.lr_g is not None
    assert optim.lr_d is not None
    with draws.seeded(config.run.seed):
        generator = Generator(config.model).to(device).train()
        discriminator = Discriminator(config.model).to(device).train()
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    if device.type == "cuda" and config.run.precision != "float32":
        dtype = getattr(torch, config.run.precision)
        for network in (generator, discriminator, ema):
            network.set_precision(dtype)
    lr_g, betas_g = losses.lazy_adam(optim.lr_g, optim.beta1, optim.beta2, loss.pl_every if loss.pl_weight else None)
    lr_d, betas_d = losses.lazy_adam(optim.lr_d, optim.beta1, optim.beta2, loss.r1_every if loss.r1_gamma else None)
    return State(
        generator,
        discriminator,
        ema,
        torch.optim.Adam(generator.parameters(), lr=lr_g, betas=betas_g, eps=optim.eps),
        torch.optim.Adam(discriminator.parameters(), lr=lr_d, betas=betas_d, eps=optim.eps),
        mean_length=torch.zeros([], device=device),
        augment_p=torch.tensor(config.augment.p, device=device),
        real_signs=torch.zeros(2, device=device),
    )


class Step:
    """The phases of a step on a state. Figures come back as means over the whole batch, of all processes.

    Args:
        config: resolved, see `TrainConfig.resolved`.
    """

    def __init__(self, state: State, config: TrainConfig) -> None:
        batch, micro = config.optim.batch, config.optim.micro
        assert batch is not None
        assert micro is not None
        self.state, self.loss, self.seed = state, config.loss, config.run.seed
        self.micro, self.num_micro = micro, batch // micro
        self.own = range(dist.rank(), self.num_micro, dist.world())
        self.augment = Augment(state.augment_p) if config.augment.kind != "none" else None
        self._w_dim = config.model.w_dim
        # Regularisers differentiate twice, which compiled graphs do not: they always run the eager passes.
        mode = config.run.compile
        self._has_graphs = mode == "reduce-overhead"
        self._paint_main = self._paint if mode == "off" else torch.compile(self._paint, mode=mode)
        self._judge_main = self._judge if mode == "off" else torch.compile(self._judge, mode=mode)

    def generator(self) -> tuple[Tensor, Tensor]:
        """Fakes that the discriminator takes for real: (loss, mean sign of their logits)."""

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            drawn = self._draw(self.micro)
            value, logits = losses.generator_loss(self._paint_main, self._judge_main, drawn)
            return value, logits.sign().mean(), drawn.mean_w

        value, sign, mean_w = self._descend(G_MAIN, 1.0, phase)
        self.state.generator.mapping.track(mean_w[None])
        return value, sign

    def path_length(self) -> tuple[Tensor, Tensor]:
        """A step of w changes the picture equally much everywhere: (penalty, mean length)."""

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            drawn = self._draw(max(self.micro // self.loss.pl_shrink, 1))
            lengths = path_length.path_lengths(self._paint, drawn)
            return losses.path_length_loss(lengths, self.state.mean_length), lengths.mean(), drawn.mean_w

        value, length, _ = self._descend(G_PATH, self.loss.pl_weight * self.loss.pl_every, phase)
        self.state.mean_length.lerp_(length, self.loss.pl_decay)
        return value, length

    def discriminator(self, reals: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Tells fakes from reals: (loss, mean sign of the reals' logits). `reals`: microbatch j → [b, 3, R, R]."""

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            with torch.no_grad():
                drawn = self._draw(self.micro)
                fakes = self._paint_main(drawn.left, drawn.centre, drawn.right, drawn.shift)
                # A graph's result lies in the graph's own memory, which the next graph may write over.
                fakes = fakes.clone() if self._has_graphs else fakes
            value, _, logits = losses.discriminator_loss(self._judge_main, fakes, reals[j])
            return value, logits.sign().mean(), drawn.mean_w

        value, sign, mean_w = self._descend(D_MAIN, 1.0, phase)
        self.state.generator.mapping.track(mean_w[None])
        return value, sign

    def r1(self, reals: dict[int, Tensor]) -> Tensor:
        """The discriminator is flat around real pictures: mean squared slope."""

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            slope = losses.r1_penalty(self._judge, reals[j]).mean()
            return slope, slope, slope.new_zeros(self._w_dim)

        return self._descend(D_R1, self.loss.r1_gamma / 2 * self.loss.r1_every, phase)[0]

    def reals(self, images_BHWC: Tensor, j: int, *, mirror: bool) -> Tensor:
        """Microbatch j, uint8 [b, R, R, 3] → float32 [b, 3, R, R] in [-1, 1] on the device, half mirrored if asked."""
        device = self.state.mean_length.device
        images = images_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1
        if not mirror:
            return images.contiguous()
        with draws.seeded(self.seed, self.state.images, j, MIRROR):
            flips = torch.rand(len(images)) < 0.5
        return torch.where(flips.to(device)[:, None, None, None], images.flip(3), images)

    def _paint(self, left: Tensor, centre: Tensor, right: Tensor, shift: Tensor) -> Tensor:
        return self.state.generator(left, centre, right, shift, noise="random")

    def _judge(self, images: Tensor) -> Tensor:
        return self.state.discriminator(images if self.augment is None else self.augment(images))

    def _draw(self, num: int) -> draws.Draw:
        is_ramping = self.state.images // 1000 < self.loss.shift_ramp_kimg
        return draws.draw(self.state.generator, num, mixing=self.loss.style_mixing, is_ramping=is_ramping)

    def _descend(self, phase: int, weight: float, run: Phase) -> tuple[Tensor, Tensor, Tensor]:
        """Sum weight · loss over microbatches and processes, take the optimiser's step; mean figures come back."""
        s = self.state
        is_generator = phase in (G_MAIN, G_PATH)
        learner, other = (s.generator, s.discriminator) if is_generator else (s.discriminator, s.generator)
        optim = s.optim_g if is_generator else s.optim_d
        learner.requires_grad_(True)
        other.requires_grad_(False)
        figures = torch.zeros(2 + self._w_dim, device=s.mean_length.device)
        for j in self.own:
            with draws.seeded(self.seed, s.images, j, phase):
                value, figure, mean_w = run(j)
            (value * (weight / self.num_micro)).backward()
            figures += torch.cat([torch.stack([value.detach(), figure.detach()]), mean_w]) / self.num_micro
        figures = dist.sum_gradients(learner.parameters(), figures)
        optim.step()
        optim.zero_grad(set_to_none=True)
        return figures[0], figures[1], figures[2:]
