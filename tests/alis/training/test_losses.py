"""Losses and schedules against published numbers, hand-made networks and closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from alis.config import ModelConfig
from alis.models import Generator, frame_codes, path_length
from alis.plane.ranges import Ranges
from alis.training import losses, recipe
from alis.training.augment import Augment, recolour, sample
from alis.training.step import Step, build
from tests.alis import fixture

TINY = ModelConfig(resolution=16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(TINY)


def test_logistic_losses_are_the_closed_forms() -> None:
    fakes, reals = torch.tensor([[0.3], [-2.0]]), torch.tensor([[1.5], [0.0]])
    value, _, _ = losses.discriminator_loss(lambda x: x, fakes, reals)
    expected = sum(-math.log(1 - 1 / (1 + math.exp(-f))) for f in (0.3, -2.0)) / 2
    expected += sum(-math.log(1 / (1 + math.exp(-r))) for r in (1.5, 0.0)) / 2
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value, _ = losses.generator_loss(lambda x: x, fakes)
    assert value.item() == pytest.approx(sum(math.log(1 + math.exp(-f)) for f in (0.3, -2.0)) / 2, rel=1e-6)


def test_r1_is_the_squared_slope() -> None:
    reals = torch.randn(3, 3, 4, 4)
    weight = torch.randn(3, 4, 4)
    slopes = losses.r1_penalty(lambda x: (x.square() * weight).sum(dim=(1, 2, 3)), reals)
    torch.testing.assert_close(slopes, (2 * reals * weight).square().sum(dim=(1, 2, 3)))


def test_r1_and_path_lengths_agree_with_the_published_networks(shared: Path) -> None:
    reference = fixture.read(shared / "fixtures" / "alis-64")
    slopes = losses.r1_penalty(reference.discriminator, reference.io["d_img"])
    published = reference.io["r1_penalty"]
    torch.testing.assert_close(slopes.view_as(published), published, rtol=1e-4, atol=1e-6)
    w = reference.io["w"][:, None].expand(-1, reference.config.num_ws, -1)
    ws = torch.stack([w[[4, 5, 0, 1]], w[:4], w[[5, 4, 1, 0]]], dim=1)
    place = Ranges(torch.tensor([0, 1, 1, 0]) * 2, 64)
    codes = frame_codes.FrameCodes(
        ws, torch.zeros(4, dtype=torch.long), place, torch.ones(4, dtype=torch.long), w[0, 0]
    )

    def paint(codes: frame_codes.FrameCodes) -> torch.Tensor:
        return reference.generator.frames(codes.ws, codes.first_B, codes.ranges)

    lengths = path_length.path_lengths(paint, codes, reference.io["pl_noise"])
    published = reference.io["pl_lengths"]
    torch.testing.assert_close(lengths.view_as(published), published, rtol=1e-4, atol=1e-6)


def test_path_lengths_depend_only_on_the_centre_codes(generator: Generator) -> None:
    """Far from the centre anchor, a frame hardly depends on its code; with d = 4, the first patch is at the left."""
    with frame_codes.seeded(1):
        codes = frame_codes.sample_frame_codes(generator, 4, mixing=0.0, is_ramping=False)
        lengths = path_length.path_lengths(lambda c: generator.frames(c.ws, c.first_B, c.ranges), codes)
        lengths.sum().backward()
    assert lengths.shape == (4,)
    assert (lengths > 0).all()
    assert losses.path_length_loss(torch.tensor([1.0, 3.0]), torch.tensor(2.0)).item() == 1.0
    generator.zero_grad(set_to_none=True)


def test_styles_are_mixed_for_each_anchor_independently(generator: Generator) -> None:
    codes = frame_codes.sample_frame_codes(generator, 256, mixing=0.9, is_ramping=False)
    mixed = []
    for w_BLS in codes.ws.unbind(dim=1):
        is_same = (w_BLS == w_BLS[:, :1]).all(dim=2)
        assert is_same[:, 0].all()
        assert not (is_same[:, 1:] & ~is_same[:, :-1]).any(), "a code changes once, at the cut"
        mixed.append(~is_same.all(dim=1))
    shares = [float(part.float().mean()) for part in mixed]
    assert all(abs(share - 0.9) < 0.07 for share in shares)
    assert (mixed[0] != mixed[1]).any()
    assert (mixed[1] != mixed[2]).any()
    plain = frame_codes.sample_frame_codes(generator, 8, mixing=0.0, is_ramping=False)
    assert (plain.ws == plain.ws[:, :, :1]).all()


def test_positions_are_uniform_except_for_the_last_and_ramp_up_from_the_left(generator: Generator) -> None:
    codes = frame_codes.sample_frame_codes(generator, 3000, mixing=0.0, is_ramping=False)
    counts = torch.bincount(codes.ranges.column_B // 2, minlength=TINY.max_shift + 1)
    assert counts[TINY.max_shift] == 0
    assert (abs(counts[:-1] / 3000 - 1 / TINY.max_shift) < 0.04).all()
    assert not frame_codes.sample_frame_codes(generator, 50, mixing=0.0, is_ramping=True).ranges.column_B.any()


def test_seeded_depends_on_its_key_and_keeps_the_outer_random_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with frame_codes.seeded(1, 2, 3):
        a = torch.rand(4)
    with frame_codes.seeded(1, 2, 3):
        b = torch.rand(4)
    with frame_codes.seeded(1, 3, 2):
        c = torch.rand(4)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)


def test_schedules_are_the_published_ones() -> None:
    assert losses.lazy_adam(0.0025, 0.0, 0.99, 16) == (0.0025 * 16 / 17, (0.0, 0.99 ** (16 / 17)))
    assert losses.lazy_adam(0.0025, 0.0, 0.99, None) == (0.0025, (0.0, 0.99))
    assert losses.ema_beta(64, 10_000_000, 10.0, 0.05) == pytest.approx(0.5 ** (64 / 20_000))
    assert losses.ema_beta(32, 1000, 10.0, 0.05) == pytest.approx(0.5 ** (32 / 50))
    assert losses.ema_beta(32, 0, 10.0, 0.05) == 0.0


def test_the_default_recipe_is_the_published_one() -> None:
    config = recipe.read(None).resolved(4)
    assert (config.optim.batch, config.optim.lr_g, config.optim.beta2) == (64, 0.0025, 0.99)
    assert recipe.read("lhq1024").resolved(4).optim.batch == 16
    assert recipe.read("lhq1024").resolved(1).optim.lr_d == 0.002
    assert (config.loss.r1_gamma, config.loss.r1_every, config.loss.pl_weight, config.loss.pl_every) == (10, 16, 2, 4)
    assert (config.loss.pl_shrink, config.loss.pl_decay, config.loss.style_mixing) == (2, 0.01, 0.9)
    assert (config.model.num_half_res, config.run.kimg, config.augment.kind) == (4, 25_000, "none")


def test_update_ema_averages_weights_and_copies_buffers(generator: Generator) -> None:
    import copy

    ema, new = copy.deepcopy(generator), copy.deepcopy(generator)
    with torch.no_grad():
        for value in [*new.parameters(), *new.buffers()]:
            if value.is_floating_point():
                value.add_(1.0)
    losses.update_ema(ema, new, 0.75)
    old = dict(generator.named_parameters())
    for name, value in ema.named_parameters():
        torch.testing.assert_close(value, old[name] + 0.25)
    assert torch.equal(ema.mapping.w_avg, new.mapping.w_avg)


def test_augmentations_do_nothing_at_p_0_and_have_second_derivatives() -> None:
    images = torch.rand(4, 3, 16, 16, dtype=torch.float32) * 2 - 1
    off = Augment(torch.tensor(0.0))(images)
    torch.testing.assert_close(off, images, rtol=0, atol=1e-5)
    torch.manual_seed(0)
    on = Augment(torch.tensor(1.0))
    assert (on(images) - images).abs().mean() > 0.1
    slopes = losses.r1_penalty(lambda x: on(x).pow(3).sum(dim=(1, 2, 3)), images)
    assert (slopes > 0).all()
    small = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    turn = torch.tensor([[[0.8, -0.5, 0.1], [0.4, 0.9, -0.2], [0, 0, 1]]], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda x: sample(x, turn).pow(2), small)


def test_warping_is_exact_for_mirrors_and_whole_pixels() -> None:
    images = torch.rand(2, 3, 8, 8)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0])).expand(2, 3, 3)
    torch.testing.assert_close(sample(images, mirror), images.flip(3))
    shift = torch.eye(3).repeat(2, 1, 1)
    shift[:, 0, 2] = 2 * 2 / 8
    torch.testing.assert_close(sample(images, shift)[..., :6], images[..., 2:])
    torch.testing.assert_close(sample(images, shift)[..., 6:], images[..., 6:].flip(3))


def test_recolouring_is_an_affine_map_of_colours() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 8, 8)
    images[:, :, 4:] = images[:, :, :4]
    result = recolour(images, torch.tensor(1.0))
    torch.testing.assert_close(result[:, :, 4:], result[:, :, :4])
    assert (result - images).abs().max() > 0.1


def test_ada_steers_towards_its_target() -> None:
    settings = recipe.AugmentSettings(kind="ada", target=0.6, speed_kimg=1)
    augment, signs = Augment(torch.tensor(0.5)), torch.zeros(2)
    for step in range(1, 5):
        augment.steer(signs, torch.tensor(0.9), 16, step, settings)
    assert float(augment.p) == pytest.approx(0.5 + 16 * 4 / 1000)
    for step in range(5, 401):
        augment.steer(signs, torch.tensor(0.1), 16, step, settings)
    assert float(augment.p) == 0.0


def test_the_result_of_a_cuda_graph_outlives_the_next_graph() -> None:
    """As with CUDA graphs: every picture is in the same memory, and the discriminator overwrites it."""
    small = {
        "model.resolution": 16,
        "model.channel_base": 128,
        "model.channel_max": 8,
        "model.z_dim": 8,
        "model.w_dim": 8,
        "optim.batch": 4,
        "loss.frames_at": "column",
    }
    reals = {0: torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))}
    losses_found = []
    for mode in ("off", "reduce-overhead"):
        config = recipe.read("tiny", {**small, "run.compile": mode}).resolved(1)
        step = Step(build(config, torch.device("cpu")), config)
        memory = torch.zeros(4, 3, 16, 16)

        def paint(codes: frame_codes.FrameCodes, step: Step = step, memory: torch.Tensor = memory) -> torch.Tensor:
            return memory.copy_(step._paint(codes))

        def judge(images: torch.Tensor, step: Step = step, memory: torch.Tensor = memory) -> torch.Tensor:
            logits = step._judge(images)
            memory.zero_()
            return logits

        if mode != "off":
            step._paint_main, step._judge_main = paint, judge
        losses_found.append([float(value) for value in step.discriminator(reals)])
        losses_found.append(step.state.discriminator.b4.out.weight.flatten()[:4].tolist())
    assert losses_found[0] == losses_found[2]
    assert losses_found[1] == losses_found[3]
