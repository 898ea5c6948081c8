"""Cost estimates of the networks: every layer's shape, parameters and FLOPs, without running it.

Counted for one frame, or for a range of any width: the multiply-adds of convolutions and dense layers as they are
actually computed (an up-sampling layer works on its input's grid; columns computed beside the range are counted).
One multiply-add = two FLOPs. Memory is the weights in float32 plus the largest features alive at once (a layer's
input, with its waves, and its output) in the given dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from alis.config import ModelConfig
from alis.models.discriminator import Discriminator
from alis.models.generator import Generator
from alis.models.layers import Conv, Dense, Skip, StyledLayer, SynthesisConv, ToRGB
from alis.plane.spans import BlockSpans, spans


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for a frame; `shape` is its output's (channels, height, width)."""

    name: str
    shape: tuple[int, ...]
    num_parameters: int
    flops: int
    num_live: int
    """Size of its input and output together, in numbers."""


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a network: its layers in the order they run, and their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations for one frame."""
        return sum(layer.flops for layer in self.layers)

    def memory_bytes(self, dtype: torch.dtype = torch.float32) -> int:
        """Memory of the weights in float32 and of the largest features of a frame in `dtype`."""
        return 4 * self.num_parameters + dtype.itemsize * max(layer.num_live for layer in self.layers)


def generator_cost(config: ModelConfig, width: int | None = None) -> CostEstimate:
    """The cost of the generator; affine layers are counted with the layer they belong to, for three anchors.

    Args:
        width: of the range to paint in pixels, by default a frame; whole patches if patches are independent.
    """
    width = width or config.resolution
    tile = config.resolution // config.grid_size
    # Independent patches are computed as ranges of one patch each.
    num = 1 if config.padding == "plane" else width // tile
    plan = {at.height: at for at in spans(config, width // num)}
    with torch.device("meta"):
        network = Generator(config)
    layers = []
    for name, module in network.named_modules():
        if name == "synthesis.b4":
            column = module.column
            assert isinstance(column, nn.Parameter)
            layers.append(LayerCost(f"{name}.column", tuple(column.shape), column.numel(), 0, column.numel()))
        elif isinstance(module, Dense) and name.startswith("mapping"):
            layers.append(_dense(name, module))
        elif isinstance(module, StyledLayer):
            block = network.get_submodule(name.rpartition(".")[0])
            layers.append(_anchored(name, module, plan[int(str(block.resolution))], num))
    return CostEstimate(tuple(layers))


def discriminator_cost(config: ModelConfig) -> CostEstimate:
    """The cost of the discriminator for one image."""
    with torch.device("meta"):
        network = Discriminator(config)
    layers = []
    for name, module in network.named_modules():
        if isinstance(module, Conv | Skip):
            side_in = int(name.split(".")[0].removeprefix("b"))
            side = side_in // 2 if isinstance(module, Skip) or module.down else side_in
            num_out, num_in = module.weight.shape[:2]
            flops = 2 * module.weight.numel() * side * side
            live = num_in * side_in**2 + num_out * side**2
            layers.append(LayerCost(name, (num_out, side, side), _own(module), flops, live))
        elif isinstance(module, Dense):
            layers.append(_dense(name, module))
    return CostEstimate(tuple(layers))


def _anchored(name: str, module: StyledLayer, at: BlockSpans, num: int) -> LayerCost:
    affine = 3 * 2 * module.affine.weight.numel()
    num_in = module.affine.weight.shape[0]
    if isinstance(module, SynthesisConv):
        rows, num_out = at.height // 2 if module.up else at.height, module.weight.shape[0]
        read, given = (at.given, at.middle) if module.up else (at.middle, at.features)
        taken = num * rows * (read.width if module.up else given.width)
        flops = affine + 2 * module.weight.numel() * taken
        live = num * (num_in * rows * read.width + num_out * at.height * given.width)
        return LayerCost(name, (num_out, at.height, num * given.width), _own(module), flops, live)
    columns = num * at.image.width
    if isinstance(module, ToRGB):
        # Six sums over channels per pixel: three colours for each of two anchors.
        flops = affine + 2 * 2 * module.weight.numel() * at.height * columns
        return LayerCost(name, (3, at.height, columns), _own(module), flops, (num_in + 9) * at.height * columns)
    columns = num * at.given.width
    return LayerCost(name, (num_in, at.height, columns), _own(module), affine, num_in * at.height * columns)


def _dense(name: str, module: Dense) -> LayerCost:
    num_out, num_in = module.weight.shape
    return LayerCost(name, (num_out,), _own(module), 2 * num_out * num_in, num_in + num_out)


def _own(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
