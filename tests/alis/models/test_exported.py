"""Networks exported by torch.export compute the same, and the export leaves nothing in caches."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim, export

import alis
from alis.web.static.onnx_graphs import TileGraph
from tests.alis import painter


@pytest.fixture(params=["patches", "plane"])
def g(request: pytest.FixtureRequest) -> alis.Generator:
    return painter.tiny() if request.param == "patches" else painter.seamless()


def test_a_frame(g: alis.Generator) -> None:
    ws = [torch.randn(2, g.config.w_dim) for _ in range(3)]
    program = export(g, (*ws, torch.tensor([1, 2])), {"noise": "const"})
    for shifts in ([1, 2], [0, 3]):
        shift = torch.tensor(shifts)
        assert torch.equal(program.module()(*ws, shift, noise="const"), g(*ws, shift, "const"))


def test_a_tile_and_codes_in_any_number(g: alis.Generator) -> None:
    tile = TileGraph(g).eval()
    plan = tile.plan()
    maps = [torch.randn(1, it.channels, it.height, it.width) for it in (*plan.noise, *plan.latents)]
    ws = torch.randn(plan.num_anchors, plan.num_ws, plan.w_dim)
    program = export(tile, (ws, torch.zeros(1, dtype=torch.int64), maps))
    for place in (0, plan.places - 1):
        assert torch.equal(program.module()(ws, torch.tensor([place]), maps), tile(ws, torch.tensor([place]), maps))
    mapping = export(g.mapping, (torch.randn(2, g.config.z_dim),), dynamic_shapes=({0: Dim("batch")},))
    z = torch.randn(5, g.config.z_dim)
    assert torch.equal(mapping.module()(z), g.mapping(z))


@pytest.mark.parametrize("is_training", [False, True])
def test_the_discriminator_whose_weights_learn(g: alis.Generator, is_training: bool) -> None:
    d = alis.Discriminator(g.config).train(is_training)
    program = export(d, (torch.randn(4, 3, 32, 32),))
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(program.module()(images), d(images))
