"""One training step in four phases; each draws its own codes, accumulates gradients, sums them over processes, updates.

A step's images are split into `num_micro` microbatches; this process computes j = rank, rank + world, … All random
numbers of a phase are seeded by (run's seed, images seen, j, phase). So the result does not depend on how many
processes share the step, except for the order of sums.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis import dist
from alis.features.efficientnet_lite import Lite0Stages
from alis.models import Discriminator, Generator, frame_codes, path_length
from alis.models.projected import Projected
from alis.training import losses
from alis.training.augment import LIGHT, LIGHT_CHANGES, Augment, chosen
from alis.training.cuda_graphs import CudaGraphs
from alis.training.recipe import TrainConfig
from alis.training.state import State

G_MAIN, G_PATH, D_MAIN, D_R1, MIRROR, PROJECTED = range(6)
log = logging.getLogger("alis")
Phase = Callable[[int], tuple[Tensor, Tensor, Tensor]]


def build(config: TrainConfig, device: torch.device) -> State:
    """Fresh networks and optimisers, a function of the seed alone. `config` is resolved.

    Raises:
        WeightsMissing: the recipe asks for a projected discriminator, and its packages are not installed.
    """
    optim, loss = config.optim, config.loss
    assert optim.lr_g is not None
    assert optim.lr_d is not None
    with frame_codes.seeded(config.run.seed):
        generator = Generator(config.model).to(device).train()
        discriminator = Discriminator(config.model).to(device).train()
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    if device.type == "cuda":
        dist.fast_float32()
        if config.run.precision != "float32":
            dtype = getattr(torch, config.run.precision)
            for network in (generator, discriminator, ema):
                network.set_precision(dtype, config.run.half_from)
        if config.run.channels_last:
            generator.synthesis.layout = ema.synthesis.layout = discriminator.layout = torch.channels_last
    lr_g, betas_g = losses.lazy_adam(optim.lr_g, optim.beta1, optim.beta2, loss.pl_every if loss.pl_weight else None)
    lr_d, betas_d = losses.lazy_adam(optim.lr_d, optim.beta1, optim.beta2, loss.r1_every if loss.r1_gamma else None)
    projected = optim_p = None
    if loss.discriminators != "residual":
        assert config.projected.size is not None
        with frame_codes.seeded(config.run.seed, PROJECTED):
            projected = Projected(Lite0Stages.channels, config.projected.size, config.projected.width).to(device)
        betas = (optim.beta1, optim.beta2)
        optim_p = _adam(projected, config.projected.lr, betas, config, device)
    return State(
        generator,
        discriminator,
        ema,
        _adam(generator, lr_g, betas_g, config, device),
        _adam(discriminator, lr_d, betas_d, config, device),
        mean_length=torch.zeros([], device=device),
        augment_p=torch.tensor(config.augment.p, device=device),
        real_signs=torch.zeros(2, device=device),
        projected=projected,
        optim_p=optim_p,
    )


def _adam(
    network: nn.Module, lr: float, betas: tuple[float, float], config: TrainConfig, device: torch.device
) -> torch.optim.Adam:
    """Adam, fused on a GPU; its step count and a rate that changes are on the GPU, as CUDA graphs need them."""
    is_gpu, eps = device.type == "cuda", config.optim.eps
    rate = torch.tensor(lr, device=device) if is_gpu and config.optim.has_schedule else lr
    adam = torch.optim.Adam(network.parameters(), rate, betas, eps, fused=is_gpu or None, capturable=is_gpu)
    adam.param_groups[0]["first_lr"] = lr
    return adam


class Step:
    """The phases of a training step. Returned figures are means over the whole batch, of all processes.

    Args:
        config: resolved, see `TrainConfig.resolved`.
    """

    def __init__(self, state: State, config: TrainConfig) -> None:
        batch, micro = config.optim.batch, config.optim.micro
        assert batch is not None
        assert micro is not None
        self.state, self.loss, self.seed = state, config.loss, config.run.seed
        self.micro, self.num_micro = micro, batch // micro
        self.own = range(dist.rank(), self.num_micro, dist.world_size())
        is_augmented = config.augment.kind != "none"
        self.augment = Augment(state.augment_p, chosen(config.augment)) if is_augmented else None
        self.has_residual = config.loss.discriminators != "projected"
        self.has_r1 = bool(config.loss.r1_gamma) and self.has_residual
        self._frozen = _frozen_blocks(state.discriminator, config.optim.freeze_d)
        self._frozen_features = None if state.projected is None else FrozenFeatures(config, state.mean_length.device)
        self._weight = config.projected.weight
        self._w_dim = config.model.w_dim
        # Regularisers always run eagerly: compiled graphs can't be differentiated twice.
        mode = config.run.compile
        self._has_graphs = mode == "reduce-overhead"
        self._paint_main = self._paint if mode == "off" else torch.compile(self._paint, mode=mode)
        self._judge_main = self._judge if mode == "off" else torch.compile(self._judge, mode=mode)
        self._graphs = _graphs(config, state.mean_length.device, len(self.own))
        self._static_reals: Tensor | None = None

    def set_rates(self, share: float, warm: float) -> None:
        """Set all learning rates to `share` times their initial value, the generator's to `warm` times that."""
        for optim in (self.state.optim_g, self.state.optim_d, self.state.optim_p):
            for group in optim.param_groups if optim is not None else ():
                rate = share * group["first_lr"] * (warm if optim is self.state.optim_g else 1.0)
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def generator(self) -> tuple[Tensor, Tensor]:
        """Train the generator to fool the discriminator; returns (loss, mean sign of the fakes' logits)."""

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            drawn = self._draw(self.micro)
            fakes = self._painted(drawn)
            value, sign = fakes.new_zeros([]), fakes.new_zeros([])
            if self.has_residual:
                value, logits = losses.generator_loss(self._judge_main, fakes)
                sign = logits.sign().mean()
            if self.state.projected is not None:
                heads = self._judge_projected(fakes)
                value = value + self._weight * losses.generator_hinge(heads)
                sign = sign if self.has_residual else _mean_sign(heads)
            return value, sign, drawn.mean_w

        value, sign, mean_w = self._descend(G_MAIN, 1.0, phase)
        self.state.generator.mapping.track(mean_w[None])
        return value, sign

    def path_length(self) -> tuple[Tensor, Tensor]:
        """Path-length regularisation of the generator; returns (penalty, mean length)."""

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            drawn = self._draw(max(self.micro // self.loss.pl_shrink, 1))
            lengths = path_length.path_lengths(self._paint, drawn)
            return losses.path_length_loss(lengths, self.state.mean_length), lengths.mean(), drawn.mean_w

        value, length, _ = self._descend(G_PATH, self.loss.pl_weight * self.loss.pl_every, phase)
        self.state.mean_length.lerp_(length, self.loss.pl_decay)
        return value, length

    def discriminator(self, reals: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Train the discriminators to tell fakes from reals; returns (loss, mean sign of the reals' logits).

        Two discriminators see the same fakes; each minimises its own loss.

        Args:
            reals: microbatch j → [b, 3, R, R].
        """
        reals = self._in_place(reals)

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            with torch.no_grad():
                drawn = self._draw(self.micro)
                fakes = self._painted(drawn)
            value, sign = fakes.new_zeros([]), fakes.new_zeros([])
            if self.has_residual:
                value, _, logits = losses.discriminator_loss(self._judge_main, fakes, reals[j])
                sign = logits.sign().mean()
            if self.state.projected is not None:
                heads = self._judge_projected(reals[j])
                value = value + losses.discriminator_hinge(self._judge_projected(fakes), heads)
                sign = sign if self.has_residual else _mean_sign(heads)
            return value, sign, drawn.mean_w

        value, sign, mean_w = self._descend(D_MAIN, 1.0, phase)
        self.state.generator.mapping.track(mean_w[None])
        return value, sign

    def r1(self, reals: dict[int, Tensor]) -> Tensor:
        """R1 regularisation of the discriminator; returns the mean squared gradient at real pictures."""
        reals = self._in_place(reals)

        def phase(j: int) -> tuple[Tensor, Tensor, Tensor]:
            slope = losses.r1_penalty(self._judge, reals[j]).mean()
            return slope, slope, slope.new_zeros(self._w_dim)

        return self._descend(D_R1, self.loss.r1_gamma / 2 * self.loss.r1_every, phase)[0]

    def reals(self, images_BHWC: Tensor, j: int, *, mirror: bool) -> Tensor:
        """Microbatch j on the device: uint8 [b, R, R, 3] → float32 [b, 3, R, R] in [-1, 1], mirrored at random."""
        device = self.state.mean_length.device
        images = images_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1
        if not mirror:
            return images.contiguous()
        # Drawn on the device: a copy from the host would synchronise with it.
        with frame_codes.seeded(self.seed, self.state.images, j, MIRROR):
            flips = torch.rand(len(images), device=device) < 0.5
        return torch.where(flips[:, None, None, None], images.flip(3), images)

    def _paint(self, drawn: frame_codes.FrameCodes) -> Tensor:
        return self.state.generator.frames(drawn.ws, drawn.first_B, drawn.ranges, noise="random")

    def _painted(self, drawn: frame_codes.FrameCodes) -> Tensor:
        fakes: Tensor = self._paint_main(drawn)
        # A graph's result is in the graph's own memory, which the next graph may overwrite.
        return fakes.clone() if self._has_graphs else fakes

    def _judge(self, images: Tensor) -> Tensor:
        return self.state.discriminator(images if self.augment is None else self.augment(images))

    def _judge_projected(self, images: Tensor) -> list[Tensor]:
        assert self._frozen_features is not None
        assert self.state.projected is not None
        return self.state.projected(self._frozen_features(images))

    def _draw(self, num: int) -> frame_codes.FrameCodes:
        is_ramping = self.state.images // 1000 < self.loss.shift_ramp_kimg
        return frame_codes.sample_frame_codes(
            self.state.generator,
            num,
            mixing=self.loss.style_mixing,
            is_ramping=is_ramping,
            frames_at=self.loss.frames_at,
        )

    def _descend(self, phase: int, weight: float, run: Phase) -> tuple[Tensor, Tensor, Tensor]:
        """Accumulate weight · loss over microbatches and processes, and step the optimisers; returns mean figures."""
        s = self.state
        learners: list[tuple[nn.Module, torch.optim.Adam]] = []
        if phase in (G_MAIN, G_PATH):
            learners.append((s.generator, s.optim_g))
        elif self.has_residual:
            learners.append((s.discriminator, s.optim_d))
        if phase == D_MAIN and s.projected is not None and s.optim_p is not None:
            learners.append((s.projected, s.optim_p))
        for network in s.networks.values():
            network.requires_grad_(any(network is learner for learner, _ in learners))
        for block in self._frozen:
            block.requires_grad_(False)
        weight /= self.num_micro

        def accumulate(j: int) -> Tensor:
            value, figure, mean_w = run(j)
            (value * weight).backward()
            return torch.cat([torch.stack([value.detach(), figure.detach()]), mean_w]) / self.num_micro

        def whole(j: int) -> Tensor:
            if phase == D_MAIN and s.projected is not None:
                s.projected.update_spectral_norm()
            figures = accumulate(j)
            for other in self.own[1:]:
                with frame_codes.seeded(self.seed, s.images, other, phase):
                    figures += accumulate(other)
            figures = dist.sum_gradients((p for learner, _ in learners for p in learner.parameters()), figures)
            for _, optim in learners:
                optim.step()
                optim.zero_grad(set_to_none=True)
            return figures

        first = self.own[0]
        with frame_codes.seeded(self.seed, s.images, first, phase):
            if self._graphs is None:
                figures = whole(first)
            else:
                figures = self._graphs.run((phase, self._is_ramping()), lambda: whole(first))
        return figures[0], figures[1], figures[2:]

    def _in_place(self, reals: dict[int, Tensor]) -> dict[int, Tensor]:
        """The real pictures, copied to the fixed address that a recorded phase reads."""
        if self._graphs is None:
            return reals
        ((j, images),) = reals.items()
        if self._static_reals is None:
            self._static_reals = torch.empty_like(images)
        if images is not self._static_reals:
            self._static_reals.copy_(images)
        return {j: self._static_reals}

    def _is_ramping(self) -> bool:
        return self.state.images // 1000 < self.loss.shift_ramp_kimg


def _graphs(config: TrainConfig, device: torch.device, num_own: int) -> CudaGraphs | None:
    """CUDA graphs if the recipe asks for them and they are possible: one GPU, one microbatch, fixed frame offsets."""
    if not config.run.graphs:
        return None
    reasons = {
        "there is no GPU": device.type != "cuda",
        "gradients are summed over processes": dist.world_size() > 1,
        "a step has several microbatches (use a smaller --optim.batch)": num_own > 1,
        "run.compile is on": config.run.compile != "off",
        'every step has another offset (use loss.frames_at = "column")': config.loss.frames_at == "pixel",
    }
    why = [reason for reason, is_so in reasons.items() if is_so]
    if why:
        log.warning("run.graphs: phases are not recorded as CUDA graphs: %s", "; ".join(why))
        return None
    return CudaGraphs()


class FrozenFeatures:
    """Pictures [B, 3, R, R] → feature maps of the frozen network, after light augmentation and resizing."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        assert config.projected.size is not None
        self.side = config.projected.size
        self.stages = Lite0Stages().to(device).eval()
        self.augment = Augment(torch.tensor(config.projected.p, device=device), LIGHT_CHANGES, LIGHT)

    def __call__(self, images: Tensor) -> list[Tensor]:
        images = self.augment(images)
        if images.shape[2] != self.side:
            size = (self.side, self.side)
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        # Measured on a CPU: channels-last makes the frozen network more than twice as fast.
        maps: list[Tensor] = self.stages(images.contiguous(memory_format=torch.channels_last))
        return maps


def _mean_sign(heads: list[Tensor]) -> Tensor:
    """Mean sign of the logits, all heads with the same weight."""
    return torch.stack([head.detach().sign().mean() for head in heads]).mean()


def _frozen_blocks(discriminator: Discriminator, num: int) -> list[nn.Module]:
    """The `num` finest blocks, which are not trained."""
    finest = list(reversed(discriminator.config.resolutions))[:num]
    return [discriminator.get_submodule(f"b{resolution}") for resolution in finest]
