"""A model folder → a report of its layers and costs, as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from alis.config import ModelConfig
from alis.models import model_folder
from alis.models.cost import CostEstimate, discriminator_cost, generator_cost

STRIP_FRAMES = 40


@dataclass(frozen=True)
class PieceCost:
    """The cost of painting a tile, frame or strip; `times` is its FLOPs over those of the same independent patches."""

    width_px: int
    flops: int
    times: float


@dataclass(frozen=True)
class Report:
    """The networks in a model folder and their costs."""

    folder: Path
    config: ModelConfig
    networks: dict[str, CostEstimate]
    pieces: dict[str, PieceCost]

    def as_json(self) -> str:
        """A JSON object: folder, settings, and for each network its sums and layers."""
        table: dict[str, object] = {"folder": str(self.folder), "config": self.config.model_dump()}
        for name, cost in self.networks.items():
            table[name] = {
                "num_parameters": cost.num_parameters,
                "flops": cost.flops,
                "memory_bytes": {_name(dtype): cost.memory_bytes(dtype) for dtype in (torch.float32, torch.float16)},
                "layers": [asdict(layer) for layer in cost.layers],
            }
        table["pieces"] = {name: asdict(piece) for name, piece in self.pieces.items()}
        return json.dumps(table, indent=1)

    def as_text(self) -> str:
        """A table for each network, with sums."""
        config = self.config
        lines = [
            f"{self.folder}",
            f"frame {config.resolution}×{config.resolution} · {config.grid_size} patches · anchors "
            f"{config.anchor_patches} patches apart · {config.num_ws} codes · "
            + (f"styles normalised from {config.half_from} up" if config.half_from else "no half-precision blocks"),
        ]
        for name, cost in self.networks.items():
            unit, letter = (1e9, "G") if cost.flops > 1e10 else (1e6, "M")
            width = max(len(layer.name) for layer in cost.layers)
            lines += ["", f"{name:<{width}}  {'output':>16}  {'parameters':>12}  {letter + 'FLOP':>8}"]
            for layer in cost.layers:
                shape = " × ".join(str(n) for n in layer.shape)
                lines.append(
                    f"{layer.name:<{width}}  {shape:>16}  {layer.num_parameters:>12,}  {layer.flops / unit:>8.2f}"
                )
            lines.append(f"{'sum':<{width}}  {'':>16}  {cost.num_parameters:>12,}  {cost.flops / unit:>8.2f}")
            sizes = [
                f"{cost.memory_bytes(d) / 1e6:,.0f} MB with {_name(d)} features" for d in (torch.float32, torch.float16)
            ]
            lines.append(f"memory for one frame: {', '.join(sizes)}")
        lines += ["", *self._pieces_text()]
        return "\n".join(lines)

    def _pieces_text(self) -> list[str]:
        """The costs of a tile, a frame and a strip, with the factor due to columns computed beside them."""
        lines = []
        for name, piece in self.pieces.items():
            times = f", {piece.times:.3f} × that of independent patches" if piece.times != 1 else ""
            lines.append(f"{name} of {piece.width_px} px: {piece.flops / 1e9:.3f} GFLOP{times}")
        return lines


def report(path: str | Path) -> Report:
    """The report of a model folder or of a run's newest snapshot.

    Raises:
        InputError, ConfigError: as `alis.load`.
    """
    folder = model_folder.find(path)
    config = model_folder.read_config(folder)
    networks = {"generator": generator_cost(config)}
    if (folder / model_folder.DISCRIMINATOR).is_file():
        networks["discriminator"] = discriminator_cost(config)
    return Report(folder, config, networks, pieces(config))


def pieces(config: ModelConfig) -> dict[str, PieceCost]:
    """The costs of a tile, a frame and a strip of 40 frames."""
    size, tile = config.resolution, config.resolution // config.grid_size
    alone = config.model_copy(update={"padding": "replicate"})
    found = {}
    for name, width in (("tile", tile), ("frame", size), ("strip", STRIP_FRAMES * size)):
        flops = generator_cost(config, width).flops
        found[name] = PieceCost(width, flops, round(flops / generator_cost(alone, width).flops, 4))
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
