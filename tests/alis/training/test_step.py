"""What each phase of a step descends: its gradient against the formula's, taken directly, and what it moves besides.

With plain gradient descent of rate 1 for Adam, weights move by exactly the gradient of the phase's loss.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from alis.models import frame_codes, path_length
from alis.training import recipe
from alis.training.recipe import TrainConfig
from alis.training.state import State
from alis.training.step import D_MAIN, D_R1, G_MAIN, G_PATH, MIRROR, Step, build
from tests.alis.training.runs import SMALL

GAMMA, EVERY = 3.0, 16
MICRO, NUM_MICRO = 4, 2


@pytest.fixture
def config() -> TrainConfig:
    changes = {
        **SMALL,
        "optim.batch": MICRO * NUM_MICRO,
        "optim.micro": MICRO,
        "loss.r1_gamma": GAMMA,
        "loss.r1_every": EVERY,
        "loss.pl_decay": 0.25,
        "loss.style_mixing": 0.5,
        "run.seed": 7,
    }
    return recipe.read("tiny", changes).resolved(1)


@pytest.fixture
def state(config: TrainConfig) -> State:
    made = build(config, torch.device("cpu"))
    made.images = 4096
    made.mean_length.fill_(0.5)
    made.generator.mapping.w_avg.normal_(generator=torch.Generator().manual_seed(3))
    optimisers = {
        name: torch.optim.SGD(network.parameters(), lr=1.0)
        for name, network in (("optim_g", made.generator), ("optim_d", made.discriminator))
    }
    return dataclasses.replace(made, **optimisers)


@pytest.fixture
def reals() -> dict[int, Tensor]:
    made = torch.Generator().manual_seed(5)
    return {j: torch.randn(MICRO, 3, 16, 16, generator=made) for j in range(NUM_MICRO)}


def moved(network: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """The change of each parameter during `run`, with opposite sign."""
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    run()
    return {name: before[name] - value.detach() for name, value in network.named_parameters()}


def gradients(network: nn.Module, phase: int, loss: Callable[[int], Tensor]) -> dict[str, Tensor]:
    """Gradients of the mean of `loss(j)` over microbatches, each drawn with the phase's seed after 4,096 images."""
    network.zero_grad(set_to_none=True)
    for j in range(NUM_MICRO):
        with frame_codes.seeded(7, 4096, j, phase):
            (loss(j) / NUM_MICRO).backward()
    found = {
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in network.named_parameters()
    }
    network.zero_grad(set_to_none=True)
    return found


def close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Compare with a tolerance for differences of float32 weights, some of which are about 100."""
    assert any(value.abs().max() > 1e-6 for value in wanted.values())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=5e-5, msg=lambda m, n=name: f"{n}: {m}")


def frames(state: State, drawn: frame_codes.FrameCodes) -> Tensor:
    return state.generator.frames(drawn.ws, drawn.first_B, drawn.ranges, noise="random")


def paint(state: State, num: int) -> tuple[frame_codes.FrameCodes, Tensor]:
    drawn = frame_codes.sample_frame_codes(state.generator, num, mixing=0.5, is_ramping=False, frames_at="pixel")
    return drawn, frames(state, drawn)


def tracked(state: State, phase: int) -> Tensor:
    """The expected average of w after one phase: a 200th of the way to the mean of its centre codes."""
    means = []
    for j in range(NUM_MICRO):
        with frame_codes.seeded(7, 4096, j, phase), torch.no_grad():
            means.append(
                frame_codes.sample_frame_codes(
                    state.generator, MICRO, mixing=0.5, is_ramping=False, frames_at="pixel"
                ).mean_w
            )
    return state.generator.mapping.w_avg.lerp(torch.stack(means).mean(0), 0.005)


def test_the_generator_descends_the_logistic_loss_and_tracks_w(config: TrainConfig, state: State) -> None:
    twin = copy.deepcopy(state)
    step = Step(state, config)
    w_avg = tracked(twin, G_MAIN)
    figures: list[Tensor] = []
    down = moved(state.generator, lambda: figures.extend(step.generator()))
    logits = []

    def loss(j: int) -> Tensor:
        logits.append(twin.discriminator(paint(twin, MICRO)[1]))
        return softplus(-logits[-1]).mean()

    close(down, gradients(twin.generator, G_MAIN, loss))
    torch.testing.assert_close(state.generator.mapping.w_avg, w_avg)
    every = torch.cat(logits)
    assert figures[0].item() == pytest.approx(softplus(-every).mean().item(), rel=1e-4)
    assert figures[1].item() == pytest.approx(every.sign().mean().item())


def test_the_discriminator_descends_both_halves_and_tracks_w(
    config: TrainConfig, state: State, reals: dict[int, Tensor]
) -> None:
    twin = copy.deepcopy(state)
    step = Step(state, config)
    w_avg = tracked(twin, D_MAIN)
    figures: list[Tensor] = []
    down = moved(state.discriminator, lambda: figures.extend(step.discriminator(reals)))
    signs = []

    def loss(j: int) -> Tensor:
        with torch.no_grad():
            fakes = paint(twin, MICRO)[1]
        fake_logits, real_logits = twin.discriminator(fakes), twin.discriminator(reals[j])
        signs.append(real_logits.sign().mean().item())
        return softplus(fake_logits).mean() + softplus(-real_logits).mean()

    close(down, gradients(twin.discriminator, D_MAIN, loss))
    torch.testing.assert_close(state.generator.mapping.w_avg, w_avg)
    assert figures[1].item() == pytest.approx(sum(signs) / NUM_MICRO)
    assert all(value.grad is None for value in state.generator.parameters())


def test_r1_weighs_half_gamma_times_its_interval(config: TrainConfig, state: State, reals: dict[int, Tensor]) -> None:
    twin = copy.deepcopy(state)
    down = moved(state.discriminator, lambda: Step(state, config).r1(reals))

    def loss(j: int) -> Tensor:
        image = reals[j].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(twin.discriminator(image).sum(), image, create_graph=True)
        return GAMMA / 2 * EVERY * slope.square().sum(dim=(1, 2, 3)).mean()

    close(down, gradients(twin.discriminator, D_R1, loss))
    assert torch.equal(state.generator.mapping.w_avg, twin.generator.mapping.w_avg)


def test_path_length_weighs_its_interval_and_moves_the_mean(config: TrainConfig, state: State) -> None:
    twin = copy.deepcopy(state)
    figures: list[Tensor] = []
    down = moved(state.generator, lambda: figures.extend(Step(state, config).path_length()))
    lengths = []

    def loss(j: int) -> Tensor:
        drawn = frame_codes.sample_frame_codes(
            twin.generator, MICRO // 2, mixing=0.5, is_ramping=False, frames_at="pixel"
        )
        found = path_length.path_lengths(lambda one: frames(twin, one), drawn)
        lengths.append(found.mean().item())
        return 2.0 * 4 * (found - 0.5).square().mean()

    close(down, gradients(twin.generator, G_PATH, loss))
    mean = sum(lengths) / NUM_MICRO
    assert figures[1].item() == pytest.approx(mean, rel=1e-4)
    assert state.mean_length.item() == pytest.approx(0.5 + 0.25 * (mean - 0.5), rel=1e-4)
    assert torch.equal(state.generator.mapping.w_avg, twin.generator.mapping.w_avg)


def test_real_pictures_become_floats_and_half_of_them_are_mirrored(config: TrainConfig, state: State) -> None:
    step = Step(state, config)
    images = torch.randint(0, 256, [MICRO, 16, 16, 3], dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    plain = step.reals(images, 1, mirror=False)
    torch.testing.assert_close(plain, images.permute(0, 3, 1, 2) / 127.5 - 1)
    assert plain.is_contiguous()
    found = step.reals(images, 1, mirror=True)
    with frame_codes.seeded(7, 4096, 1, MIRROR):
        is_flipped = torch.rand(MICRO) < 0.5
    assert 0 < is_flipped.sum() < MICRO
    for one, was, flipped in zip(found, plain, is_flipped, strict=True):
        torch.testing.assert_close(one, was.flip(2) if flipped else was)


def test_frames_begin_at_the_left_for_the_first_thousands_of_images(config: TrainConfig, state: State) -> None:
    """The ramp counts whole thousands of images: after 4,096 images, a ramp of four thousand is over."""
    drawn = {}
    for ramp in (4, 5):
        loss = config.loss.model_copy(update={"shift_ramp_kimg": ramp})
        step = Step(state, config.model_copy(update={"loss": loss}))
        with frame_codes.seeded(1):
            drawn[ramp] = step._draw(64).ranges.column_B
    assert drawn[4].any()
    assert not drawn[5].any()


def test_a_start_is_a_function_of_the_seed(config: TrainConfig) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        run = config.run.model_copy(update={"seed": seed})
        made = build(config.model_copy(update={"run": run}), torch.device("cpu"))
        assert all(torch.equal(a, b) for a, b in zip(made.ema.parameters(), made.generator.parameters(), strict=True))
        assert not any(value.requires_grad for value in made.ema.parameters())
        return made.generator.state_dict()

    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_rates_are_those_of_lazy_regularisation(config: TrainConfig) -> None:
    made = build(config, torch.device("cpu"))
    (g,), (d,) = made.optim_g.param_groups, made.optim_d.param_groups
    assert config.optim.lr_d is not None
    assert (g["lr"], g["betas"][1]) == pytest.approx((0.0025 * 4 / 5, 0.99 ** (4 / 5)))
    assert (d["lr"], d["betas"][1]) == pytest.approx((config.optim.lr_d * 16 / 17, 0.99 ** (16 / 17)))
    loss = config.loss.model_copy(update={"pl_weight": 0.0, "r1_gamma": 0.0})
    made = build(config.model_copy(update={"loss": loss}), torch.device("cpu"))
    assert made.optim_g.param_groups[0]["lr"] == 0.0025
    assert made.optim_d.param_groups[0]["lr"] == config.optim.lr_d
