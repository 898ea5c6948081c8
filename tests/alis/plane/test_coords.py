"""Positional inputs: the anchors' shares, waves, and their exact period."""

from __future__ import annotations

import pytest
import torch

from alis.config import ModelConfig
from alis.plane import coords
from alis.plane.ranges import Ranges, anchors_seen
from alis.plane.spans import Span
from tests.alis.models.spec import coordinates, window_shares


@pytest.mark.parametrize(("g", "d"), [(1, 2), (2, 3), (2, 4), (4, 1.5)])
@pytest.mark.parametrize("width", [4, 16])
def test_patches_get_their_columns_of_the_window(g: int, d: float, width: int) -> None:
    config = ModelConfig(resolution=16, grid_size=g, w_coord_dist=d)
    n = config.anchor_patches * (width // g)
    window = window_shares(torch.arange(2 * n)[None], n)[0]
    place = torch.arange(config.window_patches)
    ranges = Ranges(place * (4 // g), 16 // g)
    seen = anchors_seen(config, ranges)
    assert seen.num == 2
    found = torch.zeros(3, 2 * n, dtype=torch.float64)
    columns = ranges.columns(Span(0, width // g), width)
    for first, column, two in zip(seen.first_B, columns, seen.shares(config, columns, width), strict=True):
        found[first : first + 2, column] = two
    torch.testing.assert_close(found, window)
    torch.testing.assert_close(window.sum(dim=0), torch.ones(2 * n, dtype=torch.float64))


@pytest.mark.parametrize("resolution", [8, 64, 256])
def test_waves_are_sines_of_the_basis_and_repeat_exactly(resolution: int) -> None:
    config = ModelConfig(resolution=1024, channel_base=32768)
    width = resolution // 2
    basis = coords.block_basis(config, resolution)
    across, down = coords.wave_tables(config, basis, width)
    place = torch.tensor([0, 3, 4, 7, 4_000_000_003])
    column = place[:, None] * (width // config.grid_size) + torch.arange(width // config.grid_size)
    columns = coords.wave_columns(across, column)
    found = (
        columns[0][:, :, None, :] * down[0][None, :, :, None] + columns[1][:, :, None, :] * down[1][None, :, :, None]
    )
    assert torch.equal(found[1], found[4]), "a place a billion periods on has the same waves to the last bit"
    assert torch.equal(found[0], found[2])
    xy = coordinates(config, width, place[:4])[:, :, :, : width // 2]
    angle = torch.einsum("kc,pchw->pkhw", torch.tensor(basis, dtype=torch.float64), xy)
    torch.testing.assert_close(found[:4], torch.cat([angle.sin(), angle.cos()], dim=1), atol=1e-9, rtol=0)


def test_wave_directions_are_left_out_if_channels_are_few() -> None:
    assert [len(coords.basis(256, limit)) for limit in (64, 32, 31, 24, 23, 1)] == [28, 28, 21, 21, 14, 14]
    assert len(coords.block_basis(ModelConfig(channel_max=4, channel_base=256), 4)) == 2
