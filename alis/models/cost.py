"""What a network costs: every layer's shape, parameters and multiplications, without running it.

Counted for one frame: multiply-adds of the convolutions and dense layers as they are computed (an up-sampling
layer works on its input's grid), one multiply-add = two FLOPs. Memory is that of the weights in float32 and of the
largest features alive at once (a layer's input, with its waves, and its output) in the dtype asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from alis.config import ModelConfig
from alis.models.discriminator import Discriminator
from alis.models.generator import Generator
from alis.models.layers import Anchored, Conv, Dense, PlaneConv, ToRGB


@dataclass(frozen=True)
class Layer:
    """One layer: its name, what comes out (channels, height, width of a frame), and its costs for a frame."""

    name: str
    shape: tuple[int, ...]
    num_parameters: int
    flops: int
    num_live: int
    """Numbers held while it runs: what goes in and what comes out."""


@dataclass(frozen=True)
class Account:
    """A network's layers in the order they run, and their sums."""

    layers: tuple[Layer, ...]

    @property
    def num_parameters(self) -> int:
        """Learnt numbers."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations for one frame."""
        return sum(layer.flops for layer in self.layers)

    def memory_bytes(self, dtype: torch.dtype = torch.float32) -> int:
        """Weights in float32 and the largest features of a frame in `dtype`."""
        return 4 * self.num_parameters + dtype.itemsize * max(layer.num_live for layer in self.layers)


def of_generator(config: ModelConfig) -> Account:
    """Layers of the generator; affine layers are counted with the layer they serve, for three anchors."""
    with torch.device("meta"):
        network = Generator(config)
    layers = []
    for name, module in network.named_modules():
        if name == "synthesis.b4":
            column = module.column
            assert isinstance(column, nn.Parameter)
            layers.append(Layer(f"{name}.column", tuple(column.shape), column.numel(), 0, column.numel()))
        elif isinstance(module, Dense) and name.startswith("mapping"):
            layers.append(_dense(name, module))
        elif isinstance(module, Anchored):
            block = network.get_submodule(name.rpartition(".")[0])
            layers.append(_anchored(name, module, config, int(str(block.resolution))))
    return Account(tuple(layers))


def of_discriminator(config: ModelConfig) -> Account:
    """Layers of the discriminator, for one image."""
    with torch.device("meta"):
        network = Discriminator(config)
    layers = []
    for name, module in network.named_modules():
        if isinstance(module, Conv):
            side_in = int(name.split(".")[0].removeprefix("b"))
            side = side_in // 2 if module.down else side_in
            num_out, num_in = module.weight.shape[:2]
            flops = 2 * module.weight.numel() * side * side
            live = num_in * side_in**2 + num_out * side**2
            layers.append(Layer(name, (num_out, side, side), _own(module), flops, live))
        elif isinstance(module, Dense):
            layers.append(_dense(name, module))
    return Account(tuple(layers))


def _anchored(name: str, module: Anchored, config: ModelConfig, side: int) -> Layer:
    affine = 3 * 2 * module.affine.weight.numel()
    num_in = module.affine.weight.shape[0]
    if isinstance(module, PlaneConv):
        grid = side // 2 if module.up else side
        num_out = module.weight.shape[0]
        flops = affine + 2 * module.weight.numel() * grid * grid
        return Layer(name, (num_out, side, side), _own(module), flops, num_in * grid**2 + num_out * side**2)
    if isinstance(module, ToRGB):
        # Six sums over channels a pixel: three colours for each of two anchors.
        flops = affine + 2 * 2 * module.weight.numel() * side * side
        return Layer(name, (3, side, side), _own(module), flops, (num_in + 9) * side**2)
    return Layer(name, (num_in, side, side), _own(module), affine, num_in * side**2)


def _dense(name: str, module: Dense) -> Layer:
    num_out, num_in = module.weight.shape
    return Layer(name, (num_out,), _own(module), 2 * num_out * num_in, num_in + num_out)


def _own(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
