"""Generator → two ONNX graphs and the numbers that a page needs with them, so that a browser paints the same tiles.

    mapping.onnx    z [B, Z]                                             → w [B, S]
    tile.onnx       ws [K, L, S], place [1], noise_i, latents_r …        → a tile [3, R, R/g] in about [-1, 1]

Interpolation weights between anchors and coordinate waves repeat after a few tiles, so the graph holds them in tables
and a tile's `place` selects a row. What never repeats (codes, noise, local latents) is drawn by the page with the same
counter-based generators (`alis/web/page/random.js`) and passed in as tensors.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alis.errors import InputError
from alis.models import Generator
from alis.models.layers import PositionInputs
from alis.models.synthesis import BlockInputs
from alis.plane import latents
from alis.plane.ranges import Ranges, anchors_seen
from alis.plane.spans import spans

OPSET = 18
_TWO_FRAMES = 8  # columns of the 4×4 block after which all waves repeat


@dataclass(frozen=True)
class RandomInput:
    """A graph input of random numbers that the page draws for each tile: noise of a layer, or latents of a block.

    `stream` selects the random stream: a layer's number for noise, a block's resolution for latents. `first` is the
    first column it covers, relative to the tile's own first column at this height.
    """

    name: str
    stream: int
    channels: int
    height: int
    first: int
    width: int


@dataclass(frozen=True)
class GraphPlan:
    """What the page needs to know of the graphs: the part "network" of its `model.json`."""

    z_dim: int
    w_dim: int
    num_ws: int
    step: int
    """Columns of the 4×4 block in a tile."""
    anchor_columns: int
    """Columns of the 4×4 block between two anchors."""
    places: int
    """Number of tiles after which the tables repeat."""
    first_anchors: list[int]
    """For each place, the first anchor that its tile uses; `places` tiles further on, it is `turn_anchors` later."""
    turn_anchors: int
    num_anchors: int
    noise: list[RandomInput]
    latents: list[RandomInput]


class TileGraph(nn.Module):
    """One tile of the plane as a function of tensors alone."""

    def __init__(self, g: Generator) -> None:
        super().__init__()
        config = g.config
        self.synthesis, self.config = g.synthesis, config
        self.step, between = 4 // config.grid_size, config.anchor_columns
        period = math.lcm(_TWO_FRAMES, between, self.step)
        self.num_places = period // self.step
        self.turn_anchors = period // between
        column_P = torch.arange(self.num_places, device=g.device) * self.step
        self.ranges = Ranges(column_P, config.resolution // config.grid_size)
        seen = anchors_seen(config, self.ranges)
        self.first_anchors, self.num_anchors = seen.first_B.tolist(), seen.num
        self.at = spans(config, self.ranges.width)
        self.latents = [block.num_latents for block in g.synthesis.blocks]
        for block, found in zip(g.synthesis.blocks, g.synthesis.inputs(self.ranges, "none"), strict=True):
            r = block.resolution
            for name in ("given_BKw", "own_BKw", "colours_BKw"):
                self.register_buffer(f"{name}_{r}", getattr(found, name).float())
            self.register_buffer(f"colours_first_B_{r}", found.colours_first_B)
            if found.place is not None:
                # [P, 2, C, w]: the first dimension is the one that is looked up.
                self.register_buffer(f"across_{r}", found.place.across_2BKw.transpose(0, 1).float().contiguous())
        self.noise_spans = g.synthesis.noise_spans(self.ranges)

    def plan(self) -> GraphPlan:
        """Describe the graph's inputs for the page."""
        config, heights = self.config, self.synthesis.noise_resolutions
        return GraphPlan(
            config.z_dim,
            config.w_dim,
            config.num_ws,
            self.step,
            config.anchor_columns,
            self.num_places,
            self.first_anchors,
            self.turn_anchors,
            self.num_anchors,
            [
                RandomInput(f"noise_{layer}", layer, 1, height, span.first, span.width)
                for layer, (height, span) in enumerate(zip(heights, self.noise_spans, strict=True))
            ],
            [
                RandomInput(
                    f"latents_{at.height}", at.height, num, _input_height(at.height), at.given.first, at.given.width
                )
                for at, num in zip(self.at, self.latents, strict=True)
                if num
            ],
        )

    def forward(self, ws_KLS: Tensor, place_1: Tensor, maps: list[Tensor]) -> Tensor:
        """Paint the tile: [3, R, R/g] in about [-1, 1].

        Args:
            ws_KLS: codes of the anchors that the tile uses, from left to right.
            place_1: int64, the tile's number modulo the number of places.
            maps: one [1, channels, height, width] for each of `plan().noise`, then for each of `plan().latents`.
        """
        queue, inputs = list(maps), []
        noise = queue[: len(self.noise_spans)]
        latents = iter(queue[len(self.noise_spans) :])
        for block, at, num in zip(self.synthesis.blocks, self.at, self.latents, strict=True):
            r = block.resolution
            own = [noise.pop(0) for _ in block.noise_layers]
            place = None
            if block.sees_place:
                across = self._row(f"across_{r}", place_1).transpose(0, 1)
                place = PositionInputs(across, block.down.float(), next(latents) if num else None)
            given, over, colours = (
                self._row(f"{name}_{r}", place_1) for name in ("given_BKw", "own_BKw", "colours_BKw")
            )
            first = self._row(f"colours_first_B_{r}", place_1)
            inputs.append(BlockInputs(at, given, over, colours, first, place, [*own]))
        anchors_1K = torch.arange(self.num_anchors, device=ws_KLS.device)[None]
        picture: Tensor = self.synthesis.paint(ws_KLS, anchors_1K, inputs)
        return picture[0]

    def _row(self, name: str, place_1: Tensor) -> Tensor:
        return self.get_buffer(name).index_select(0, place_1)


def _input_height(resolution: int) -> int:
    return 4 if resolution == 4 else resolution // 2


def export(g: Generator, folder: Path) -> GraphPlan:
    """Write both graphs to a folder and return what the page needs to know of them.

    Raises:
        InputError: onnx or onnxscript is not installed.
    """
    tile = TileGraph(g).eval()
    plan = tile.plan()
    z_2Z = torch.zeros(2, g.config.z_dim)
    _write(g.mapping, (z_2Z,), folder / "mapping.onnx", ["z"], "w", {"z_BZ": {0: torch.export.Dim("batch")}})
    maps = [torch.zeros(1, it.channels, it.height, it.width) for it in (*plan.noise, *plan.latents)]
    names = ["ws", "place", *(it.name for it in (*plan.noise, *plan.latents))]
    ws_KLS = torch.zeros(plan.num_anchors, plan.num_ws, plan.w_dim)
    _write(tile, (ws_KLS, torch.zeros(1, dtype=torch.int64), maps), folder / "tile.onnx", names, "tile", None)
    return plan


def _write(
    network: nn.Module, inputs: tuple[Any, ...], path: Path, names: list[str], output: str, dynamic: Any
) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError(f"{path.name}: needs onnx and onnxscript", hint="pip install 'lhq[web]'") from None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=[output],
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def as_json(plan: GraphPlan) -> dict[str, Any]:
    """The plan as a JSON object."""
    return asdict(plan)


def quantiles() -> Tensor:
    """The table of normal quantiles that local latents are looked up in, float32 [65536]."""
    return latents.quantiles(torch.device("cpu"))


def stored_noise(g: Generator) -> list[Tensor]:
    """The stored noise map [r, r] of every 3×3 layer, in the order of `GraphPlan.noise`."""
    return [layer.noise_const for block in g.synthesis.blocks for layer in block.noise_layers]
