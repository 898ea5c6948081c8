"""Panoramas with plane padding: identical wherever they are cut, edits within their reach, rings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import alis
from alis.errors import InputError
from alis.metrics.geometry import equivariance_db
from alis.painting import connect, strip, video
from alis.painting.panorama import paint
from alis.plane.anchors import Draw, Sketch
from tests.alis import painter


@pytest.fixture(scope="module")
def g() -> alis.Generator:
    return painter.seamless()


def _difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("noise", ["random", "none", "const"])
@pytest.mark.parametrize(("distance", "grid"), [(4, 2), (2, 2), (6, 2), (8, 1), (4, 4)])
def test_tiles_alone_equal_the_wide_picture(noise: str, distance: float, grid: int) -> None:
    panorama = alis.Panorama(painter.seamless(w_coord_dist=distance, grid_size=grid), 7, noise=noise, batch=40)
    wide = panorama[-20 * panorama.tile_px : 20 * panorama.tile_px]
    tiles = np.concatenate([panorama.tile(k) for k in range(-20, 20)], axis=1)
    assert _difference(wide, tiles) <= 1
    assert wide.std() > 20, "a flat picture would prove nothing"
    other = alis.Panorama(panorama.g, 7, noise=noise, batch=3)
    assert _difference(other[-75:331], panorama[-75:331]) <= 1


@pytest.mark.parametrize("far", [10**12, -(10**12)])
def test_tiles_are_exact_a_trillion_pixels_away(g: alis.Generator, far: int) -> None:
    panorama = alis.Panorama(g, 7)
    k = far // panorama.tile_px
    wide = panorama[k * panorama.tile_px : (k + 4) * panorama.tile_px]
    assert _difference(wide, np.concatenate([panorama.tile(k + i) for i in range(4)], axis=1)) <= 1
    assert wide.std() > 20


def test_any_cut_is_the_same_picture(g: alis.Generator) -> None:
    panorama = alis.Panorama(g, 3)
    whole = panorama[-300:500]
    for start, stop in [(-300, -299), (-37, 41), (0, 16), (255, 500), (17, 18)]:
        assert np.array_equal(panorama[start:stop], whole[:, start + 300 : stop + 300])


@pytest.mark.parametrize("loop", [False, True])
def test_a_redraw_changes_no_bit_outside_its_reach(g: alis.Generator, loop: bool) -> None:
    panorama = alis.Panorama(g, 7, ring=12 if loop else None)
    other = panorama.with_edits({3: 1})
    first, last = panorama.reach(3)
    assert (first, last) == (2 * panorama.anchor_px - panorama.halo_px, 4 * panorama.anchor_px + panorama.halo_px)
    changed = (panorama[first - 200 : last + 200] != other[first - 200 : last + 200]).any(axis=(0, 2))
    assert not changed[:200].any()
    assert not changed[-200:].any()
    assert changed[200 + panorama.halo_px : -200 - panorama.halo_px].mean() > 0.9
    assert changed[200 : 200 + panorama.halo_px].any(), "filters carry the edit beyond the neighbour"
    for k in range(first // panorama.tile_px - 2, last // panorama.tile_px + 3):
        left = k * panorama.tile_px
        is_same = np.array_equal(panorama.tile(k), other.tile(k))
        assert is_same or 3 in panorama.anchors(left, left + panorama.tile_px)
        assert is_same or (left < last and left + panorama.tile_px > first)


def test_a_tile_depends_only_on_its_anchors(g: alis.Generator) -> None:
    panorama = alis.Panorama(g, 7)
    for k in (-3, 0, 5):
        named = panorama.anchors(k * panorama.tile_px, (k + 1) * panorama.tile_px)
        beyond = {i: 1 for i in range(named.start - 4, named.stop + 4) if i not in named}
        assert np.array_equal(panorama.with_edits(beyond).tile(k), panorama.tile(k))


def test_planes_in_one_batch_do_not_affect_each_other(g: alis.Generator) -> None:
    planes = [
        alis.Panorama(g, 1),
        alis.Panorama(g, 2, noise="const", psi=0.5),
        alis.Panorama(g, 3, noise="none", ring=4),
    ]
    mixed = paint([(planes[k % 3], k - 5) for k in range(9)])
    for k in range(9):
        assert _difference(mixed[k], planes[k % 3].tile(k - 5)) <= 1


def test_a_ring_closes_with_its_latents(g: alis.Generator) -> None:
    ring = alis.Panorama(g, 3, ring=3)
    around = ring.ring_px
    assert around == 3 * ring.anchor_px
    assert np.array_equal(ring.tile(-1), ring.tile(3 * 4 - 1))
    assert _difference(ring[-90:90], np.roll(ring[0:around], 90, axis=1)[:, :180]) <= 1
    assert _difference(ring[5 * around - 40 : 5 * around + 40], ring[-40:40]) <= 1
    # On the endless plane, the same codes have other latents from the second turn on.
    straight = alis.Panorama(g, 3).with_edits({i: ring.code(i % 3) for i in range(-3, 7)})
    assert _difference(ring[around : 2 * around], straight[around : 2 * around]) > 20
    inside = slice(ring.halo_px, around - ring.halo_px)
    assert _difference(ring[0:around][:, inside], straight[0:around][:, inside]) <= 1


def test_rings_that_are_too_short_are_refused(g: alis.Generator) -> None:
    with pytest.raises(InputError, match=r"a ring of 1 anchors \(64 px\) is shorter") as caught:
        alis.Panorama(g, ring=1)
    assert caught.value.hint == "use at least 2"
    assert alis.Panorama(painter.tiny(), ring=1).ring_px == 64
    assert strip.plan(alis.Panorama(g), width=10, loop=True).width == 2 * 64
    settings = video.video_settings(alis.Panorama(g), seconds=0.1, fps=10, aspect="1:1")
    assert len(list(video.video_frames(alis.Panorama(g), settings, speed=1, loop=True))) == settings.num_frames


def test_shifts_by_a_quarter_of_a_frame_are_exact(g: alis.Generator) -> None:
    assert equivariance_db(g, 4, seed=0) > 100


def test_seeds_give_different_latents_for_the_same_codes(g: alis.Generator) -> None:
    w = g.map(torch.randn(3, 32)).chunk(3)
    frames = [g(*w, 2, seed=seed) for seed in (0, 1)]
    assert torch.equal(frames[0], g(*w, 2))
    assert not torch.allclose(frames[0], frames[1], atol=0.05)


def test_connected_scenes_are_in_the_picture(g: alis.Generator) -> None:
    panorama = alis.Panorama(g, 5, noise="none")
    done = connect.plan(panorama, [Draw(3), Draw(14)], gap=1)
    first, last = painter.scene_columns(panorama, 1, gap=1)
    w = done.panorama.code(3)
    alone = panorama.with_edits(dict.fromkeys(range(2, 6), w))
    found, wanted = done.panorama[first:last].astype(float), alone[first:last].astype(float)
    assert np.abs(found - wanted).mean() < 3, "neighbours are seen a little at the scene's borders"


def test_strips_have_a_note_and_can_be_redrawn(g: alis.Generator, tmp_path: Path) -> None:
    panorama = alis.Panorama(g, 7)
    done = strip.plan(panorama, width=700, start=-100)
    strip.paint(done, tmp_path / "strip.png")
    again = strip.read(tmp_path / "strip.png", g)
    assert again.note == done.note
    other = strip.redrawn(again, at=300)
    first, last = panorama.reach(3)
    pixels = [np.concatenate(list(plan.columns(0)), axis=1) for plan in (again, other)]
    changed = (pixels[0] != pixels[1]).any(axis=(0, 2)).nonzero()[0] - 100
    assert first <= changed.min()
    assert changed.max() < last
    assert Sketch.parse(other.note.sketch).edits == {3: Draw(7, 3, 1)}
