"""The endless plane: single tiles equal the wide picture, and edits change nothing outside their reach."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import alis
from alis.errors import InputError
from alis.painting.panorama import choose_device, paint
from alis.plane.anchors import MAX_ANCHOR, MAX_SEED, Draw, SavedCode, Sketch, draw_z
from alis.plane.noise import column_noise
from tests.alis import fixture, painter


@pytest.fixture(scope="module")
def g() -> alis.Generator:
    return painter.tiny()


def _difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_the_published_panorama_is_reproduced(shared: Path) -> None:
    reference = fixture.read(shared / "fixtures" / "alis-64")
    w = reference.generator.map(reference.io["panorama_z"]).detach()
    panorama = alis.Panorama(reference.generator, noise="none").with_edits(dict(enumerate(w)))
    want = (reference.io["panorama"][0] * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    got = panorama[0:768]
    assert _difference(got, want) <= 1
    assert (got != want).mean() < 1e-3


@pytest.mark.parametrize("noise", ["random", "none", "const"])
@pytest.mark.parametrize(("distance", "grid"), [(4, 2), (2, 2), (6, 2), (8, 1), (4, 4)])
def test_tiles_alone_equal_the_wide_picture(noise: str, distance: float, grid: int) -> None:
    panorama = alis.Panorama(painter.tiny(w_coord_dist=distance, grid_size=grid), 7, noise=noise)
    wide = panorama[-20 * panorama.tile_px : 20 * panorama.tile_px]
    tiles = np.concatenate([panorama.tile(k) for k in range(-20, 20)], axis=1)
    assert _difference(wide, tiles) <= 1
    assert wide.std() > 20, "a flat picture would prove nothing"


def test_any_cut_is_the_same_picture(g: alis.Generator) -> None:
    panorama = alis.Panorama(g, 3)
    whole = panorama[-300:500]
    for start, stop in [(-300, -299), (-37, 41), (0, 16), (255, 500), (17, 18)]:
        assert np.array_equal(panorama[start:stop], whole[:, start + 300 : stop + 300])
    assert panorama[5:5].shape == (32, 0, 3)
    assert panorama.image(-4, 60).size == (64, 32)
    assert whole.dtype == np.uint8


def test_batches_only_change_roundings(g: alis.Generator) -> None:
    pictures = [alis.Panorama(g, 3, batch=batch)[0:640] for batch in (1, 3, 16)]
    assert _difference(pictures[0], pictures[1]) <= 1
    assert _difference(pictures[0], pictures[2]) <= 1


def test_planes_in_one_batch_do_not_affect_each_other(g: alis.Generator) -> None:
    planes = [
        alis.Panorama(g, 1),
        alis.Panorama(g, 2, noise="const", psi=0.5),
        alis.Panorama(g, 3, noise="none", ring=2),
    ]
    mixed = paint([(planes[k % 3], k - 5) for k in range(9)])
    for k in range(9):
        assert _difference(mixed[k], planes[k % 3].tile(k - 5)) <= 1


def test_a_redraw_changes_only_its_reach(g: alis.Generator) -> None:
    panorama = alis.Panorama(g, 7)
    other = panorama.with_edits({3: 1})
    first, last = panorama.reach(3)
    start, stop = first - 200, last + 200
    changed = (panorama[start:stop] != other[start:stop]).any(axis=(0, 2))
    assert not changed[:200].any()
    assert not changed[-200:].any()
    assert changed[200:-200].mean() > 0.9
    assert np.array_equal(other.with_edits({3: 0})[start:stop], panorama[start:stop])
    assert panorama.sketch.edits == {}, "the first panorama must not know of the edit"


def test_given_codes_are_used_at_their_anchors(g: alis.Generator) -> None:
    w_S = g.map(torch.randn(1, 32))[0]
    plus_LS = w_S.expand(g.num_ws, -1).clone()
    panorama = alis.Panorama(g, 7, noise="none")
    edited = panorama.with_edits({4: w_S, 5: w_S})
    assert np.array_equal(edited[0:700], panorama.with_edits({4: plus_LS, 5: plus_LS})[0:700])
    frame = g(w_S[None], w_S[None], w_S[None], 1)
    want = (frame[0] * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    left = 4 * panorama.anchor_px + panorama.tile_px
    assert _difference(edited[left : left + 32], want) <= 1
    named = alis.Panorama(g, 7, noise="none", codes={"mine": w_S}).with_edits(
        {4: SavedCode("mine"), 5: SavedCode("mine")}
    )
    assert np.array_equal(named[0:700], edited[0:700])


def test_an_anchor_can_use_the_draw_of_another_plane(g: alis.Generator) -> None:
    elsewhere = alis.Panorama(g, 99)
    assert torch.equal(alis.Panorama(g, 7).with_edits({2: Draw(99, -5)}).code(2), elsewhere.code(-5))


def test_a_ring_closes_without_a_seam(g: alis.Generator) -> None:
    ring = alis.Panorama(g, 3, ring=3)
    around = ring.ring_px
    assert around == 3 * ring.anchor_px
    assert np.array_equal(ring.tile(-1), ring.tile(3 * 4 - 1))
    assert _difference(ring[-90:90], np.roll(ring[0:around], 90, axis=1)[:, :180]) <= 1
    # Repeating the ring's codes on an endless plane gives the same picture, also across the join.
    codes = {i: ring.code(i % 3) for i in range(-3, 7)}
    straight = alis.Panorama(g, 3, noise="none").with_edits(codes)
    calm = ring.with_sketch(Sketch(3, ring=3, noise="none"))
    assert _difference(calm[0:around], straight[0:around]) <= 1
    assert _difference(calm[around - 64 : around + 64], straight[around - 64 : around + 64]) <= 1


def test_rings_and_planes_that_cannot_close_are_refused() -> None:
    two = painter.tiny(w_coord_dist=2)
    alis.Panorama(two, ring=4)
    with pytest.raises(InputError, match="does not close"):
        alis.Panorama(two, ring=3)
    with pytest.raises(InputError, match="no endless plane"):
        alis.Panorama(painter.tiny(w_coord_dist=3))


def test_truncation_ends_at_the_mean_and_at_the_nearest_centre(g: alis.Generator) -> None:
    assert torch.allclose(alis.Panorama(g, 7, psi=0).code(5), g.mapping.w_avg)
    free = alis.Panorama(g, 7)
    half = alis.Panorama(g, 7, psi=0.5)
    assert torch.allclose(half.code(5), (g.mapping.w_avg + free.code(5)) / 2, atol=1e-6)
    centres = g.map(torch.randn(5, 32))
    nearest = int((centres - free.code(5)).norm(dim=1).argmin())
    assert torch.allclose(alis.Panorama(g, 7, psi=0, cluster="nearest", centres=centres).code(5), centres[nearest])
    for index in range(12):
        code = alis.Panorama(g, 7, cluster=2, centres=centres).code(index)
        assert int((centres - code).norm(dim=1).argmin()) == 2
    with pytest.raises(InputError, match="no clusters yet"):
        alis.Panorama(g, 7, cluster=1).code(0)
    with pytest.raises(InputError, match="no cluster 5"):
        alis.Panorama(g, 7, cluster=5, centres=centres).code(0)


def test_draws_are_normal_independent_and_stable_across_versions() -> None:
    z = np.stack(
        [draw_z(Draw(seed, index, variant), 64) for seed in (0, 7) for index in range(-40, 40) for variant in (0, 1)]
    )
    assert abs(z.mean()) < 0.03
    assert abs(z.std() - 1) < 0.03
    correlation = np.corrcoef(z)
    assert np.abs(correlation - np.eye(len(z))).max() < 0.65
    assert np.array_equal(draw_z(Draw(7, -3), 64), z[len(z) // 2 + 2 * 37])
    # Seeds must keep the meaning that they have in saved links and strips.
    assert np.allclose(draw_z(Draw(7, -3, 2), 4), [-0.45998, 1.06943, -1.26314, -0.07405], atol=1e-5)
    assert draw_z(Draw(7, 1), 7).shape == (7,)
    assert not np.array_equal(draw_z(Draw(7, 1), 8, attempt=1), draw_z(Draw(7, 1), 8))


def test_noise_is_a_function_of_seed_layer_and_column() -> None:
    seeds, columns = torch.tensor([5, 5, 6]), torch.tensor([[-64], [-48], [-64]]) + torch.arange(32)
    noise = column_noise(seeds, 3, columns, 64)
    assert noise.shape == (3, 1, 64, 32)
    assert torch.equal(noise[0, :, :, 16:], noise[1, :, :, :16])
    assert not torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], column_noise(seeds, 4, columns, 64)[0])
    wide = column_noise(torch.tensor([5]), 0, 2**45 + torch.arange(4096)[None], 256).double()
    assert abs(float(wide.mean())) < 0.005
    assert abs(float(wide.std()) - 1) < 0.005
    assert abs(float((wide**4).mean()) - 3) < 0.03
    for down, right in ((0, 1), (1, 0), (2, 0), (1, 1)):
        a, b = wide[0, 0, down:, right:], wide[0, 0, : 256 - down, : 4096 - right]
        assert abs(float((a * b).mean())) < 0.005, (down, right)


_SOURCES = st.one_of(
    st.builds(Draw, st.integers(0, MAX_SEED), st.integers(-MAX_ANCHOR, MAX_ANCHOR), st.integers(0, 99)),
    st.builds(SavedCode, st.from_regex(r"[A-Za-z0-9.-]{1,40}", fullmatch=True)),
)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, MAX_SEED),
    edits=st.dictionaries(st.integers(-MAX_ANCHOR, MAX_ANCHOR), _SOURCES, max_size=8),
    psi=st.floats(0, 2),
    cluster=st.one_of(st.none(), st.just("nearest"), st.integers(0, 9999)),
    noise=st.sampled_from(["random", "none", "const"]),
)
def test_a_sketch_and_its_text_are_equivalent(**values: object) -> None:
    sketch = Sketch(**values)  # type: ignore[arg-type]
    assert Sketch.parse(sketch.text) == sketch
    assert Sketch.parse(sketch.text).text == sketch.text
    assert pickle.loads(pickle.dumps(sketch)) == sketch
    assert hash(Sketch.parse(sketch.text)) == hash(sketch)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.from_regex(r"[0-9]{1,18}/[-_acnprsvif0-9.]{0,30}", fullmatch=True)))
def test_any_text_is_canonical_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert Sketch.parse(text).text == text


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda g: alis.Panorama(g, -1), "seed -1"),
        (lambda g: alis.Panorama(g, MAX_SEED + 1), "seed"),
        (lambda g: alis.Panorama(g, 1.5), "seed 1.5"),  # type: ignore[arg-type]
        (lambda g: alis.Panorama(g, psi=-0.1), "psi"),
        (lambda g: alis.Panorama(g, psi=float("nan")), "psi"),
        (lambda g: alis.Panorama(g, noise="loud"), "noise"),
        (lambda g: alis.Panorama(g, cluster="far"), "cluster"),
        (lambda g: alis.Panorama(g, ring=0), "ring"),
        (lambda g: alis.Panorama(g).tile(2**60), "tile"),
        (lambda g: alis.Panorama(g).tile(1.0), "tile 1.0"),  # type: ignore[arg-type]
        (lambda g: alis.Panorama(g)[:10], "needs both ends"),
        (lambda g: alis.Panorama(g)[0:10:2], "sliced by columns"),
        (lambda g: alis.Panorama(g)[3], "sliced by columns"),  # type: ignore[index]
        (lambda g: alis.Panorama(g).with_edits({0: torch.zeros(5)}), r"shape \[5\]"),
        (lambda g: alis.Panorama(g).with_edits({0: torch.full((32,), torch.nan)}), "not finite"),
        (lambda g: alis.Panorama(g).with_edits({0: SavedCode("gone")}).tile(0), "no saved code"),
        (lambda g: alis.Panorama(g).with_edits({0: -1}), "variant -1"),
        (lambda g: alis.Panorama(g, sketch=Sketch(ring=2, edits={2: Draw(3)})), "not on the ring"),
        (lambda g: Sketch(0, edits={i: Draw(1) for i in range(65)}), "too many"),
        (lambda g: SavedCode("../x"), "code name"),
        (lambda g: choose_device("warp"), "device"),
    ],
)
def test_invalid_arguments_are_refused(g: alis.Generator, make: object, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make(g)  # type: ignore[operator]
    assert caught.value.hint


def test_caches_of_painting_work_with_gradients_later() -> None:
    """Painting runs in inference mode; what it caches (folded weights, codes) must work with gradients later."""
    g = painter.tiny()
    panorama = alis.Panorama(g, seed=3)
    panorama.tile(0)
    w = panorama.code(0).clone().requires_grad_()
    (slope,) = torch.autograd.grad(g(w[None], w[None], w[None], 0).square().sum(), w)
    assert slope.abs().max() > 0
    g(panorama.code(1)[None] * torch.ones(1, requires_grad=True), w[None], w[None], 0).sum().backward()


def test_numpy_integers_are_accepted(g: alis.Generator) -> None:
    panorama = alis.Panorama(g, seed=np.int64(5))
    given = alis.Panorama(g, np.int64(5), psi=np.float32(0.5), ring=np.int64(4), batch=np.int64(3))
    plain = alis.Panorama(g, 5, psi=0.5, ring=4, batch=3)
    assert (given.sketch, given.batch) == (plain.sketch, plain.batch)
    assert panorama.sketch == Sketch(5)
    for k in np.arange(-1, 1):
        assert np.array_equal(panorama.tile(k), alis.Panorama(g, seed=5).tile(int(k)))
    assert np.array_equal(panorama[np.int32(-3) : np.uint8(9)], panorama[-3:9])
    assert panorama.with_edits({np.int64(2): np.int64(1)}).sketch == panorama.with_edits({2: 1}).sketch
    with pytest.raises(InputError, match="whole numbers"):
        panorama[0.0:8.0]


@pytest.mark.parametrize(
    "columns",
    [slice(True, 3), slice(0, False), slice(0.0, 3), slice(0, 10**40), slice(-(10**40), 0), slice(0, 2**31)],
    ids=str,
)
def test_invalid_columns_are_an_error(g: alis.Generator, columns: slice) -> None:
    with pytest.raises(InputError):
        alis.Panorama(g, 5)[columns]
