"""Plane padding: a range of columns computed alone equals the same columns of a wider picture."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import alis
from alis.config import ModelConfig
from alis.errors import ConfigError, InputError
from alis.models.frame_codes import sample_frame_codes, seeded
from alis.models.layers import SynthesisConv
from alis.models.path_length import path_lengths
from alis.ops import layout
from alis.plane import coords
from alis.plane.latents import local_latents
from alis.plane.ranges import Ranges, anchors_seen
from alis.plane.spans import halo_px, spans
from alis.training import recipe
from tests.alis.models.test_models import generator

GREY = 2 / 255  # one level, of pictures from −1 to 1


def seamless(**values: object) -> ModelConfig:
    told = {"resolution": 32, "channel_base": 256, "channel_max": 16, "z_dim": 8, "w_dim": 8, "padding": "plane"}
    return ModelConfig(**{**told, "local_latents": 0.5, "start": "unit", **values})


def columns(g: alis.Generator, ws_ALS: Tensor, first: int, start: int, width: int, seed: int = 7) -> Tensor:
    """Pixel columns start … start + width − 1 of a plane with a table of anchors, from number `first` on."""
    column, sub = divmod(start, g.config.resolution // 4)
    ranges = Ranges(torch.tensor([column]), width, sub, seed_B=torch.tensor([seed]))
    picture: Tensor = g.frames(ws_ALS[None], torch.tensor([first]), ranges, noise="const")[0]
    return picture


def anchors(config: ModelConfig, num: int, seed: int = 1) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(num, 1, config.w_dim, generator=made).expand(-1, config.num_ws, -1)


@settings(max_examples=40, deadline=None)
@given(
    geometry=st.sampled_from([(32, 2, 4), (16, 2, 2), (16, 1, 6), (32, 4, 4), (16, 4, 1.5), (64, 2, 4)]),
    start=st.integers(-100, 100),
    width=st.integers(1, 150),
)
def test_a_range_alone_equals_the_same_columns_of_a_wider_one(
    geometry: tuple[int, int, float], start: int, width: int
) -> None:
    resolution, grid, d = geometry
    config = seamless(resolution=resolution, grid_size=grid, w_coord_dist=d)
    g, ws = generator(config), anchors(config, 60)
    wide = columns(g, ws, -30, start - 70, width + 150)
    alone = columns(g, ws, -30, start, width)
    torch.testing.assert_close(alone, wide[..., 70 : 70 + width], atol=1e-4, rtol=1e-4)
    assert wide.std() > 0.1, "a flat picture would prove nothing"


@pytest.mark.parametrize("noise", ["none", "const"])
def test_a_wide_range_stored_by_column_equals_narrow_ones(noise: str) -> None:
    config = seamless(resolution=128)
    g, ws = generator(config), anchors(config, 20)
    stored: list[bool] = []
    for resolution in (64, 128):
        block = g.synthesis.get_submodule(f"b{resolution}")
        block.register_forward_hook(lambda module, inputs, found: stored.append(layout.is_column_major(found[0])))
    for dtype, within in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        g = g.to(dtype)
        ranges = [Ranges(torch.tensor([at]), width, seed_B=torch.tensor([7])) for at, width in ((-9, 353), (-4, 64))]
        wide, narrow = (g.frames(ws[None].to(dtype), torch.tensor([-10]), at, noise=noise) for at in ranges)
        torch.testing.assert_close(narrow, wide[..., 160:224], atol=within, rtol=within)
        assert wide.std() > 0.1, "a flat picture would prove nothing"
    assert stored == [False, True, False, False] * 2, "only wide ranges, and only where rows are long"


@pytest.mark.parametrize("far", [0, 10**12, -(10**12)])
def test_ranges_are_equal_a_trillion_pixels_away(far: int) -> None:
    config = seamless()
    g, ws = generator(config), anchors(config, 12)
    start = far // g.config.resolution * g.config.resolution + 5
    first = start // 64 - 4
    wide, alone = columns(g, ws, first, start - 40, 200), columns(g, ws, first, start, 17)
    assert (alone - wide[..., 40:57]).abs().max() < 1e-5
    # Waves repeat after two frames, latents never do: only they cause the difference here.
    moved = columns(g, ws, first + 1000, start + 64_000, 17)
    assert (moved - alone).abs().max() > 0.01


@pytest.mark.parametrize(
    ("dtype", "from_resolution", "levels"), [(torch.bfloat16, 4, 40), (torch.float16, 4, 8), (torch.float16, None, 3)]
)
def test_other_precisions_keep_their_error_bounds(
    dtype: torch.dtype, from_resolution: int | None, levels: float
) -> None:
    config = seamless()
    g, ws = generator(config).set_precision(dtype, from_resolution), anchors(config, 12)
    wide, alone = columns(g, ws, -4, -40, 200), columns(g, ws, -4, 0, 16)
    assert (alone - wide[..., 40:56]).abs().max() < levels * GREY


def test_plane_padding_uses_true_columns_and_replicated_rows() -> None:
    """One layer against plain convolutions of the whole plane, with rows replicated above and below."""
    config = seamless(local_latents=0.0, wave_limit=4, conv_clamp=None)
    torch.manual_seed(0)
    x, styles = torch.randn(1, 16, 8, 40), torch.randn(1, 2, 16)
    way = (torch.arange(40.0) + 0.5) / 40
    shares = torch.stack([1 - way, way])[None]
    scaled = x * torch.einsum("bkc,bkw->bcw", styles, shares)[:, :, None]
    rows = torch.cat([scaled[:, :, :1]] * 3 + [scaled] + [scaled[:, :, -1:]] * 3, dim=2)
    for up in (False, True):
        layer = SynthesisConv(16, 8, 16 if up else 8, config, up=up).requires_grad_(False)
        weight = layer.weight / (layer.weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        found = layer(x, styles, shares, None, None, (2, 1))
        if up:
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
            fir = (taps[:, None] * taps / 64 * 4).expand(8, 1, 4, 4)
            wide = functional.conv_transpose2d(rows, weight.transpose(0, 1), stride=2)
            wide = functional.conv2d(wide, fir, padding=1, groups=8)
            wanted = functional.leaky_relu(wide, 0.2)[:, :, 6:-6, 1 + 2 : -1 - 1] * 2**0.5
        else:
            wanted = functional.leaky_relu(functional.conv2d(rows, weight), 0.2)[:, :, 2:-2] * 2**0.5
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_only_necessary_columns_are_computed() -> None:
    """Three columns beside the range at every height but the two highest; a batch at any columns has one shape."""
    config = seamless(resolution=256)
    for at in spans(config, 512):
        beside = {256: 0, 128: 2}.get(at.height, 3)
        assert (at.features.first, at.features.stop) == (-beside, at.height * 2 + beside)
        assert (at.image.first, at.image.stop) == ((0, 512) if at.height == 256 else (-1, at.height * 2 + 1))
    assert halo_px(config) <= 256
    for sub in range(64):
        for at in spans(config, 100, sub):
            scale = 256 // at.height
            assert at.features.first * scale <= sub
            assert at.features.stop * scale >= sub + 100
            assert at.features.width <= 100 / scale + 9


def test_shifts_by_a_quarter_are_exact() -> None:
    config = seamless(local_latents=0.0)
    g, ws = generator(config), anchors(config, 20)
    here = columns(g, ws, -5, 0, 64)
    for quarters in (1, 2, 5):
        there = columns(g, ws, -5, 8 * quarters, 64)
        error = (here[..., 8 * quarters :] - there[..., : 64 - 8 * quarters]).double()
        assert -10 * torch.log10(error.square().mean() / 4) > 100


def test_an_anchor_affects_exactly_its_reach() -> None:
    config = seamless()
    g, ws = generator(config), anchors(config, 24)
    before = columns(g, ws, -10, -320, 640)
    other = ws.clone()
    other[10] += 1
    changed = (columns(g, other, -10, -320, 640) != before).any(dim=0).any(dim=0).nonzero().flatten() - 320
    reach = 64 + halo_px(config)
    assert -reach <= int(changed.min()) <= -64
    assert 64 <= int(changed.max()) < reach
    ranges = Ranges(torch.tensor([0, 3]), 32)
    seen = anchors_seen(config, ranges)
    assert (seen.first_B * 64 <= torch.tensor([0, 24]) - halo_px(config)).all()


def test_latents_are_normal_independent_and_stable_across_versions() -> None:
    seeds, at = torch.tensor([5, 5, 6]), torch.tensor([[-64], [-48], [-64]]) + torch.arange(32)
    found = local_latents(seeds, 16, at, 3, 8)
    assert found.shape == (3, 3, 8, 32)
    assert torch.equal(found[0, :, :, 16:], found[1, :, :, :16])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], local_latents(seeds, 32, at, 3, 8)[0])
    wide = local_latents(torch.tensor([5]), 8, 2**45 + torch.arange(4096)[None], 4, 256).double()[0]
    assert abs(float(wide.mean())) < 0.003
    assert abs(float(wide.std()) - 1) < 0.003
    assert abs(float((wide**4).mean()) - 3) < 0.02
    for channel, down, right in ((0, 0, 1), (0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 0, 0), (1, 1, 0)):
        a, b = wide[: 4 - channel, down:, right:], wide[channel:, : 256 - down, : 4096 - right]
        assert abs(float((a * b).mean())) < 0.004, (channel, down, right)
    # The word of channel 1, rows 2 and 3, computed with integers only: other languages get the same field.
    low, high = local_latents(torch.tensor([7]), 16, torch.tensor([[-3]]), 2, 8)[0, 1, 2:4, 0].tolist()
    quantile = torch.distributions.Normal(0.0, 1.0).icdf
    word = _word(seed=7, resolution=16, column=-3, channel=1, pair=1, pairs=4)
    for number, half in ((low, word & 0xFFFF), (high, word >> 16)):
        assert number == pytest.approx(float(quantile(torch.tensor((half + 0.5) / 65536))), abs=1e-4)


def _word(*, seed: int, resolution: int, column: int, channel: int, pair: int, pairs: int) -> int:
    def mix(x: int) -> int:
        x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    low, high = column & 0xFFFFFFFF, column >> 32 & 0xFFFFFFFF
    key = mix(mix(seed & 0xFFFFFFFF ^ (0x4C617400 + resolution) * 0x9E3779B1 & 0xFFFFFFFF) ^ seed >> 32)
    return mix(mix(mix(key ^ low) ^ high) ^ (channel * pairs + pair) * 0x9E3779B1 & 0xFFFFFFFF)


def test_half_of_the_waves_along_x_are_replaced() -> None:
    full, half, none = (alis.Generator(seamless(local_latents=share)) for share in (0.0, 0.5, 1.0))
    for a, b, c in zip(full.synthesis.blocks, half.synthesis.blocks, none.synthesis.blocks, strict=True):
        num_across = 2 * sum(x != 0 for x, _ in coords.block_basis(a.config, a.resolution))
        assert b.num_latents == 2 * (num_across // 2 // 2)
        assert c.num_latents == num_across
        layers = [block.conv1 if block.first else block.conv0 for block in (a, b, c)]
        assert len({layer.weight.shape for layer in layers}) == 1, "the layer keeps its size"


@pytest.mark.parametrize("frames_at", ["patch", "column", "pixel"])
def test_frames_in_training_are_frames_of_the_plane(frames_at: str) -> None:
    config = seamless()
    g = generator(config)
    with seeded(3):
        drawn = sample_frame_codes(g, 6, mixing=0.9, frames_at=frames_at)  # type: ignore[arg-type]
    assert (drawn.ranges.sub > 0) == (frames_at == "pixel")
    found = g.frames(drawn.ws, drawn.first_B, drawn.ranges)
    assert drawn.ranges.seed_B is not None
    for b in range(6):
        ranges = Ranges(drawn.ranges.column_B[b : b + 1], 32, drawn.ranges.sub, seed_B=drawn.ranges.seed_B[b : b + 1])
        alone = g.frames(drawn.ws[b : b + 1], drawn.first_B[b : b + 1], ranges)
        torch.testing.assert_close(alone[0], found[b], atol=1e-4, rtol=1e-4)
    lengths = path_lengths(lambda c: g.frames(c.ws, c.first_B, c.ranges), drawn)
    assert (lengths > 0).all(), "the centre is an anchor that the frame sees"


def test_all_parameters_get_gradients_of_both_orders() -> None:
    config = seamless(resolution=16, num_half_res=1)
    g = generator(config, to_paint=False)
    with seeded(1):
        drawn = sample_frame_codes(g, 3, mixing=0.0, frames_at="pixel")
        images = g.frames(drawn.ws, drawn.first_B, drawn.ranges, noise="random")
        slope = path_lengths(lambda c: g.frames(c.ws, c.first_B, c.ranges), drawn)
    (images.square().sum() + slope.square().sum()).backward()
    for name, value in g.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0, name


def test_gradients_equal_finite_differences() -> None:
    config = seamless(resolution=16, channel_base=64, channel_max=4)
    g = generator(config, to_paint=False).double()
    ranges = Ranges(torch.tensor([3, 6]), 8, 1, seed_B=torch.tensor([4, 5]))
    num = anchors_seen(config, ranges)
    ws = torch.randn(2, num.num, config.num_ws, 8, dtype=torch.float64, requires_grad=True)
    column = g.synthesis.b4.column

    def paint(ws: Tensor, column: Tensor) -> Tensor:
        named = {"synthesis.b4.column": column}
        painted: Tensor = torch.func.functional_call(g, named, (ws, num.first_B, ranges))
        return painted

    g.forward = g.frames  # type: ignore[assignment]
    assert torch.autograd.gradcheck(paint, (ws, column), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda w: paint(w, column), (ws,), fast_mode=True)


@pytest.mark.parametrize("name", [name for name in recipe.shipped_configs() if recipe.read(name).model.start == "unit"])
def test_fresh_generators_start_in_range(name: str) -> None:
    config = recipe.read(name).model
    torch.manual_seed(0)
    with torch.no_grad():
        g, sizes = alis.Generator(config), {}
        for layer_name, layer in g.named_modules():
            if isinstance(layer, SynthesisConv):
                layer.register_forward_hook(
                    lambda _, __, x, name=layer_name: sizes.__setitem__(name, float(x.square().mean().sqrt()))
                )
        num = 4 if config.resolution <= 256 else 1
        drawn = sample_frame_codes(g, num, mixing=0.0, frames_at="column")
        pictures = g.frames(drawn.ws, drawn.first_B, drawn.ranges, noise="random")
    assert 0.25 < float(pictures.std()) < 0.8
    assert float((pictures.abs() > 1).float().mean()) < 0.08
    assert all(0.4 < size < 1.6 for size in sizes.values()), sizes


def test_settings_that_published_networks_lack_need_plane_padding() -> None:
    for padding in ("zeros", "replicate"):
        with pytest.raises(ConfigError, match=r"local_latents = 0\.5") as caught:
            seamless(padding=padding)
        assert 'padding = "plane"' in caught.value.hint
        g = generator(seamless(padding=padding, local_latents=0.0))
        with pytest.raises(InputError, match="a range of 20 columns"):
            g.synthesis(torch.zeros(2, g.num_ws, 8), torch.tensor([[0, 1]]), Ranges(torch.tensor([0]), 20))
    for wrong in (True, False, math.nan, "half", None, 1.01):
        with pytest.raises(ConfigError, match="local_latents = "):
            ModelConfig(padding="plane", local_latents=wrong)
    with pytest.raises(ConfigError, match="grid_size = True"):
        ModelConfig(grid_size=True)
    with pytest.raises(ConfigError, match="local_latents"):
        seamless(local_latents=1.5)
    with pytest.raises(ConfigError, match='frames_at = "pixel"'):
        recipe.read("lhq256", {"loss.frames_at": "pixel"}).resolved(1)
    with pytest.raises(ConfigError, match="compiled"):
        recipe.read("tiny", {"run.compile": "default"}).resolved(1)
