"""The networks: the method's formulas, independence of patches, periods, precision, model folders."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import alis
from alis.config import ModelConfig
from alis.errors import ConfigError, InputError, WeightsMissing
from alis.models.discriminator import group_deviation
from alis.plane.ranges import Ranges
from tests.alis.models.spec import Spec


def small(**values: object) -> ModelConfig:
    told = {"resolution": 32, "channel_base": 256, "channel_max": 16, "z_dim": 8, "w_dim": 8, **values}
    return ModelConfig(**told)


def generator(config: ModelConfig, seed: int = 0, *, to_paint: bool = True) -> alis.Generator:
    """A generator with visible noise and waves, and non-zero biases and average w."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        g = alis.Generator(config)
        for name, value in g.named_parameters():
            if name.endswith(("noise_strength", "bias")) and "affine" not in name:
                value.data.normal_(std=0.3)
            if name.endswith(("conv0.weight", "conv1.weight")):
                value.data.normal_()
        g.mapping.w_avg.normal_()
    return g.eval().requires_grad_(False) if to_paint else g


def codes(config: ModelConfig, num: int, seed: int = 1) -> list[torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(num, config.w_dim, generator=made) for _ in range(3)]


def patches(
    network: alis.Generator,
    ws_P3LS: torch.Tensor,
    place: torch.Tensor,
    *,
    seat: torch.Tensor | None = None,
    noise: str = "none",
) -> torch.Tensor:
    """Single patches of windows of three anchors, by their number in the window: [P, 3, R, R/g]."""
    config = network.config
    each = 4 // config.grid_size
    stored = None if seat is None else seat * each
    ranges = Ranges(place * each, config.resolution // config.grid_size, stored_B=stored)
    return network.frames(ws_P3LS, torch.zeros_like(place), ranges, noise=noise)


GEOMETRIES = [(1, 2), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (4, 1.5), (4, 2), (4, 3)]


@pytest.mark.parametrize(("g", "d"), GEOMETRIES)
def test_any_valid_geometry_computes_the_formulas(g: int, d: float) -> None:
    config = small(grid_size=g, w_coord_dist=d, resolution=16)
    network = generator(config)
    spec, three = Spec(config, network.state_dict()), codes(config, 1)
    for shift in range(config.max_shift + 1):
        wanted = spec(three, shift, noise=True)
        assert (network(*three, shift, noise="const") - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert (
            network.double()(*[w.double() for w in three], shift) - spec(three, shift, noise=False)
        ).abs().max() < 1e-6
        network.float()


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256, 512, 1024])
def test_every_resolution_computes_the_formulas(resolution: int) -> None:
    config = small(resolution=resolution, channel_base=max(64, resolution), channel_max=4, num_half_res=2)
    network = generator(config)
    three = codes(config, 1)
    wanted = Spec(config, network.state_dict())(three, 3, noise=True)
    found = network(*three, 3, noise="const")
    assert found.shape == (1, 3, resolution, resolution)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("num_half_res", [1, 2, 4])
def test_half_precision_blocks_normalise_styles_in_any_precision(num_half_res: int) -> None:
    config = small(num_half_res=num_half_res)
    network, three = generator(config), codes(config, 2)
    wanted = Spec(config, network.state_dict())(three, 2, noise=False)
    plain = Spec(small(), network.state_dict())(three, 2, noise=False)
    limit = float(wanted.abs().max())
    assert (wanted - plain).abs().max() > 0.05 * limit, "the normalisation must matter for this test to"
    assert (network(*three, 2) - wanted).abs().max() < 1e-3 * limit
    for dtype, tolerance in ((torch.float16, 2e-2), (torch.bfloat16, 6e-2), (torch.float32, 1e-3)):
        found = network.set_precision(dtype)(*three, 2)
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() < tolerance * limit
    low = network.set_precision(torch.bfloat16, from_resolution=4)(*three, 2)
    assert 0 < (low - wanted).abs().max() < 0.15 * limit


@pytest.mark.parametrize(("g", "d"), [(1, 4), (2, 4), (4, 2)])
def test_replicate_padding_computes_the_formulas_on_extended_patches(g: int, d: float) -> None:
    config = small(grid_size=g, w_coord_dist=d, resolution=16, padding="replicate")
    network, three = generator(config), codes(config, 1)
    spec = Spec(config, network.state_dict())
    for shift in range(config.max_shift + 1):
        wanted = spec(three, shift, noise=True)
        assert (network(*three, shift, noise="const") - wanted).abs().max() < 1e-4 * wanted.abs().max()
        half = copy.deepcopy(network).set_precision(torch.bfloat16, from_resolution=4)
        assert (half(*three, shift, noise="const") - wanted).abs().max() < 0.1 * wanted.abs().max()
    zeros = alis.Generator(config.model_copy(update={"padding": "zeros"})).eval()
    zeros.load_state_dict(network.state_dict())
    assert not torch.allclose(zeros(*three, 0), network(*three, 0), atol=1e-2)


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_a_patch_depends_only_on_its_two_anchors(padding: str) -> None:
    config = small(padding=padding)
    network, table = generator(config), torch.randn(3, config.num_ws, config.w_dim)
    for place, unseen in ((0, 2), (3, 2), (4, 0), (7, 0)):
        x = patches(network, table[None], torch.tensor([place]))
        other = table.clone()
        other[unseen] += 1
        assert torch.equal(patches(network, other[None], torch.tensor([place])), x)
        other[1] += 1
        assert not torch.equal(patches(network, other[None], torch.tensor([place])), x)


def test_frames_are_patches_side_by_side() -> None:
    config = small(grid_size=4)
    network = generator(config)
    left, centre, right = codes(config, 2)
    frames = network(left, centre, right, torch.tensor([1, 5]), noise="const")
    table = torch.cat([left, centre, right])[:, None].expand(-1, config.num_ws, -1)
    for sample, shift in ((0, 1), (1, 5)):
        three = table[[sample, sample + 2, sample + 4]].expand(4, -1, -1, -1)
        alone = patches(network, three, shift + torch.arange(4), seat=torch.arange(4), noise="const")
        torch.testing.assert_close(torch.cat(list(alone), dim=2), frames[sample], atol=1e-5, rtol=1e-5)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.integers(0, 5), steps=st.integers(1, 1), d=st.sampled_from([4, 8]))
def test_shifting_by_patches_moves_the_picture(seed: int, shift: int, steps: int, d: int) -> None:
    config = small(resolution=16, w_coord_dist=d)
    network, three = generator(config, seed % 7), codes(config, 1, seed)
    width = config.resolution // config.grid_size * steps
    here, there = network(*three, shift), network(*three, shift + steps)
    torch.testing.assert_close(here[..., width:], there[..., :-width], atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), d=st.sampled_from([2, 4, 6, 8]))
def test_the_plane_continues_in_the_next_window(seed: int, d: int) -> None:
    """A frame at the right end of a window equals the one at the left end of the window two anchors further on."""
    config = small(resolution=16, w_coord_dist=d)
    network = generator(config, seed % 5)
    w = torch.randn(5, config.num_ws, config.w_dim, generator=torch.Generator().manual_seed(seed))
    last = config.window_patches
    window = patches(network, w[None, 0:3].expand(last, -1, -1, -1), torch.arange(last))
    if d % 4 == 0:
        # Waves repeat every two frames, so a window may start at any anchor.
        n = config.anchor_patches
        moved = patches(network, w[None, 1:4].expand(n, -1, -1, -1), torch.arange(n))
        torch.testing.assert_close(window[config.anchor_patches :], moved, atol=1e-5, rtol=1e-5)
    # Two windows meet at anchor 2: the styles are continuous there.
    beyond = patches(network, w[None, 2:5], torch.tensor([0]))
    other = w.clone()
    other[4] += 1
    assert torch.equal(patches(network, other[None, 2:5], torch.tensor([0])), beyond)


def test_noise_is_none_stored_random_or_given() -> None:
    config = small()
    network, three = generator(config), codes(config, 2)
    quiet, stored = network(*three, 1, noise="none"), network(*three, 1, noise="const")
    assert not torch.equal(quiet, stored)
    fresh = [network(*three, 1, noise="random") for _ in range(2)]
    assert not torch.equal(*fresh)
    layers = [module for module in network.modules() if hasattr(module, "noise_const")]
    given_maps = [torch.stack(layer.noise_const.chunk(2, dim=1)).repeat(2, 1, 1)[:, None] for layer in layers]
    assert [m.shape[2] for m in given_maps] == list(network.synthesis.noise_resolutions)
    torch.testing.assert_close(network(*three, 1, noise=given_maps), stored)
    with pytest.raises(InputError, match="for 7 layers"):
        network(*three, 1, noise=given_maps[:3])
    for wrong in (given_maps[2][:3], given_maps[2][..., :-1], given_maps[2].squeeze(1), given_maps[4]):
        with pytest.raises(InputError, match="noise: map 2 is"):
            network(*three, 1, noise=[*given_maps[:2], wrong, *given_maps[3:]])
    with pytest.raises(InputError, match='unknown mode "constant"'):
        network(*three, 1, noise="constant")


def test_codes_and_shifts_are_checked() -> None:
    config = small()
    network, (left, centre, right) = generator(config), codes(config, 2)
    for shift in (-1, 7, torch.tensor([0, 7]), torch.tensor([0.0, 1.0]), torch.tensor([0, 1, 2])):
        with pytest.raises(InputError, match="shift"):
            network(left, centre, right, shift)
    with pytest.raises(InputError, match="w_left: shape"):
        network(left[:, :3], centre, right, 0)
    with pytest.raises(InputError, match="batches of 1, 2, 2"):
        network(left[:1], centre, right, 0)
    wide = centre[:, None].expand(-1, config.num_ws, -1)
    torch.testing.assert_close(network(left, wide, right, 2), network(left, centre, right, 2))


def test_the_average_of_w_is_tracked_and_truncates_codes() -> None:
    network = generator(small())
    z = torch.randn(6, 8)
    w, before = network.map(z), network.mapping.w_avg.clone()
    torch.testing.assert_close(network.map(z, psi=0), before.expand(6, -1))
    torch.testing.assert_close(network.map(z, psi=0.5), (w + before) / 2)
    network.mapping.track(w)
    torch.testing.assert_close(network.mapping.w_avg, before * 0.995 + w.mean(dim=0) * 0.005)


def test_all_parameters_get_gradients_of_both_orders() -> None:
    config = small(resolution=16, num_half_res=1)
    network = generator(config, to_paint=False)
    judge = alis.Discriminator(config)
    z = torch.randn(3, 2, 8)
    w = [network.mapping(one) for one in z]
    images = network(*w, torch.tensor([0, 3]), noise="random")
    (slope,) = torch.autograd.grad(images.square().sum(), w[1], create_graph=True)
    (judge(images).sum() + slope.square().sum()).backward()
    for name, value in [*network.named_parameters(), *judge.named_parameters()]:
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0 or name.startswith("b4.out.bias"), name


@pytest.mark.parametrize(("channel_max", "wanted"), [(512, 1.0), (64, 64 / 512)])
def test_waves_start_with_the_share_they_have_in_the_published_width(channel_max: int, wanted: float) -> None:
    torch.manual_seed(0)
    g = alis.Generator(small(channel_base=16 * channel_max, channel_max=channel_max))
    own, waves = g.synthesis.get_submodule("b16.conv0").weight.split([channel_max, 24], dim=1)
    assert float(own.detach().std()) == pytest.approx(1, abs=0.02)
    assert float(waves.detach().std()) == pytest.approx(wanted, rel=0.03)


def test_blocks_above_the_limit_get_no_waves() -> None:
    config = small(wave_limit=8)
    network, three = generator(config), codes(config, 1)
    wanted = Spec(config, network.state_dict())(three, 1, noise=True)
    assert (network(*three, 1, noise="const") - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert network.synthesis.get_submodule("b8.conv0").weight.shape[1] > config.channels(4)
    assert network.synthesis.get_submodule("b16.conv0").weight.shape[1] == config.channels(8)


def test_cached_weights_follow_changes() -> None:
    """Folded weights are cached between calls, and computed again when the weights change."""
    network, three = generator(small()), codes(small(), 1)
    before = network(*three, 0)
    other = generator(small(), seed=5)
    wanted = other(*three, 0)
    network.load_state_dict(other.state_dict())
    assert torch.equal(network(*three, 0), wanted)
    assert not torch.equal(before, wanted)
    moved = copy.deepcopy(network).double().float()
    torch.testing.assert_close(moved(*three, 0), wanted, atol=1e-4, rtol=1e-4)
    live = generator(small(), to_paint=False).train()
    torch.testing.assert_close(live(*three, 0).detach(), before, atol=1e-5, rtol=1e-5)


def test_discriminator_compares_images_of_a_group() -> None:
    x = torch.randn(6, 5, 4, 4)
    for size, used in ((4, 3), (2, 2), (1, 1), (8, 6)):
        found = group_deviation(x, size)
        assert found.shape == (6, 1, 4, 4)
        groups = x.reshape(used, 6 // used, 5, 4, 4)
        spread = groups.var(dim=0, unbiased=False).add(1e-8).sqrt().mean(dim=(1, 2, 3))
        torch.testing.assert_close(found[:, 0, 0, 0], spread.repeat(used))
    judge = alis.Discriminator(small(num_half_res=2)).eval()
    images = torch.randn(2, 3, 32, 32)
    full = judge(images)
    assert full.shape == (2, 1)
    torch.testing.assert_close(judge.set_precision(torch.bfloat16)(images), full, atol=0.05, rtol=0.1)
    with pytest.raises(InputError, match="images: shape"):
        judge(torch.zeros(1, 3, 16, 16))


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        for resolution, base, count in ((256, 16384, 24_111_298), (1024, 32768, 30_020_980)):
            network = alis.Generator(ModelConfig(resolution=resolution, channel_base=base, num_half_res=4))
            assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"resolution": 100}, "the nearest is 128"),
        ({"resolution": 2048}, "the nearest is 1024"),
        ({"resolution": 8}, "the nearest is 16"),
        ({"grid_size": 3}, "use 1, 2 or 4"),
        ({"grid_size": 8}, "use 1, 2 or 4"),
        ({"w_coord_dist": 0.5}, "narrower than a frame"),
        ({"w_coord_dist": math.nan}, "finite number"),
        ({"w_coord_dist": 2.5}, "use a multiple of 1"),
        ({"grid_size": 1, "w_coord_dist": 3}, "use a multiple of 2"),
        ({"channel_base": 16}, "leaves no channel"),
        ({"num_half_res": 9}, "there are 7 resolutions"),
        ({"resolutoin": 64}, 'did you mean "resolution"'),
        ({"z_dim": 0}, "greater than 0"),
        ({"z_dim": "many"}, "neither a number"),
        ({"conv_clamp": -1}, "greater than 0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**values)
    assert said in str(caught.value)


def test_half_resolutions_are_counted_from_the_top() -> None:
    found = [
        (r, n, ModelConfig(resolution=r, num_half_res=n).half_from) for r, n in ((1024, 4), (256, 4), (16, 3), (64, 0))
    ]
    assert found == [(1024, 4, 128), (256, 4, 32), (16, 3, 8), (64, 0, None)]


def test_a_saved_model_loads_unchanged(tmp_path: Path) -> None:
    config = small(num_half_res=1, conv_clamp=None)
    network, judge = generator(config), alis.Discriminator(config)
    alis.save(tmp_path / "model", network, judge, notes={"seen_images": 12})
    again, other = alis.load(tmp_path / "model"), alis.load_discriminator(tmp_path / "model")
    assert again.config == other.config == config
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    three = codes(config, 1)
    assert torch.equal(again(*three, 1, noise="const"), network(*three, 1, noise="const"))
    assert json.loads((tmp_path / "model/config.json").read_text())["notes"] == {"seen_images": 12}
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "discriminator.safetensors",
        "model.safetensors",
    ]


def test_a_run_opens_its_newest_snapshot(tmp_path: Path) -> None:
    for name, seed in (("000010", 1), ("000200", 2)):
        alis.save(tmp_path / "snapshots" / name, generator(small(), seed=seed))
    (tmp_path / "snapshots" / "000300").mkdir()
    (tmp_path / "snapshots" / "000300" / "model.safetensors.part").write_bytes(b"half")
    wanted = generator(small(), seed=2).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in alis.load(tmp_path).state_dict().items())


def test_folders_without_a_model_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        alis.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a model folder"):
        alis.load(tmp_path)
    (tmp_path / "snapshot.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="alis import-published"):
        alis.load(tmp_path / "snapshot.pkl")
    folder = tmp_path / "model"
    alis.save(folder, generator(small()))
    with pytest.raises(WeightsMissing, match=r"discriminator\.safetensors"):
        alis.load_discriminator(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["crc32"]

    def rewrite(**model: object) -> None:
        (folder / "config.json").write_text(json.dumps({**config, "model": {**config["model"], **model}}))

    rewrite(channel_max=8)
    with pytest.raises(InputError, match=r"is \(.*config.json asks for"):
        alis.load(folder)
    rewrite(chanel_max=8)
    with pytest.raises(ConfigError, match=r'config\.json.*: unknown key "chanel_max".*did you mean'):
        alis.load(folder)
    rewrite(grid_size=3)
    with pytest.raises(ConfigError, match=r"config\.json: model: grid_size = 3"):
        alis.load(folder)
    (folder / "config.json").write_text(json.dumps({**config, "format": 2}))
    with pytest.raises(InputError, match="newer than 1"):
        alis.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        alis.load(folder)
    rewrite()
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(InputError, match="can't be read"):
        alis.load(folder)


def test_names_of_the_package() -> None:
    for name in alis.__all__:
        assert getattr(alis, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        alis.laod
