"""Feature maps of a frozen network → logits: four small heads on random mixtures of the maps (projected GAN).

A network trained on a million photographs recognises shapes from the first step on, so the generator learns them in a
fraction of the images. The random mixing keeps the heads from relying on a few channels. Only the heads are trained.
Letters: B batch, C channels, H W rows and columns. Source: arXiv 2111.01007 (projected GANs, sections 3 and 4);
arXiv 1802.05957 (spectral normalisation).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis.models import frame_codes
from alis.ops.bias_act import SLOPE

MIXING_SEED = 2111
HEAD_SIDE = 4


class SpectralConv(nn.Module):
    """Convolution with spectral normalisation: the weight, as a matrix [O, I·k·k], over its largest singular value.

    `update_spectral_norm` updates the estimate of that value, by one round of power iteration per training step; so a
    step's result does not depend on the number of microbatches or processes.
    """

    def __init__(self, num_in: int, num_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, size, size) / math.sqrt(num_in * size * size))
        self.register_buffer("left", functional.normalize(torch.randn(num_out), dim=0))
        self.register_buffer("right", functional.normalize(torch.randn(num_in * size * size), dim=0))
        self.left: Tensor
        self.right: Tensor
        self.stride, self.padding = stride, (size - 1) // 2
        for _ in range(8):
            self.update_spectral_norm()

    @torch.no_grad()
    def update_spectral_norm(self) -> None:
        """One round of power iteration."""
        matrix = self.weight.flatten(1)
        self.right.copy_(functional.normalize(self.left @ matrix, dim=0))
        self.left.copy_(functional.normalize(matrix @ self.right, dim=0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        largest = torch.dot(self.left, self.weight.flatten(1) @ self.right)
        return functional.conv2d(x_BCHW, self.weight / largest, stride=self.stride, padding=self.padding)


class Head(nn.Module):
    """Strided convolutions down to 4×4, then one logit at each position."""

    def __init__(self, num_in: int, side: int, width: int) -> None:
        super().__init__()
        num_halvings = max(int(math.log2(max(side // HEAD_SIDE, 1))), 0)
        widths = [num_in, *(width for _ in range(num_halvings))]
        self.layers = nn.ModuleList(SpectralConv(a, b, 4, stride=2) for a, b in itertools.pairwise(widths))
        self.layers.append(SpectralConv(widths[-1], width, 3))
        self.out = SpectralConv(width, 1, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B, H'·W']."""
        for layer in self.layers:
            # Batch statistics, as in the source, but no running statistics: they would be hidden state.
            x_BCHW = functional.leaky_relu(functional.batch_norm(layer(x_BCHW), None, None, training=True), SLOPE)
        logits: Tensor = self.out(x_BCHW).flatten(1)
        return logits


class Projected(nn.Module):
    """The projected discriminator without its frozen network: maps at four scales → logits of four heads.

    The mixing weights are drawn once from their own seed and saved as buffers with the heads' weights.

    Args:
        channels: of the maps, finest first.
        side: of the frozen network's input; its maps have a quarter to a 32nd of it.
        width: channels that the finest map is mixed to; each coarser map gets twice as many, up to eight times.
    """

    def __init__(self, channels: Sequence[int], side: int, width: int) -> None:
        super().__init__()
        mixed = [width * 2**k for k in range(len(channels))]
        with frame_codes.seeded(MIXING_SEED):
            for k, (num_in, num_out) in enumerate(zip(channels, mixed, strict=True)):
                self.register_buffer(f"channels{k}", _random(num_in, num_out, 1))
                self.register_buffer(f"scales{k}", _random(num_out, mixed[max(k - 1, 0)], 3))
        sides = [max(side // (4 * 2**k), 1) for k in range(len(channels))]
        into = [mixed[max(k - 1, 0)] for k in range(len(channels))]
        self.heads = nn.ModuleList(Head(a, b, 2 * width) for a, b in zip(into, sides, strict=True))

    def update_spectral_norm(self) -> None:
        """Update all estimates of singular values; call once before each training step."""
        for module in self.modules():
            if isinstance(module, SpectralConv):
                module.update_spectral_norm()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, N] of each head, the coarsest map's first; positive means real."""
        found: list[Tensor] = []
        coarser: Tensor | None = None
        for k in reversed(range(len(maps))):
            x = functional.conv2d(maps[k], self.get_buffer(f"channels{k}"))
            if coarser is not None:
                x = x + functional.interpolate(coarser, size=x.shape[2:], mode="bilinear", align_corners=False)
            coarser = functional.conv2d(x, self.get_buffer(f"scales{k}"), padding=1)
            found.append(self.heads[k](coarser))
        return found


def _random(num_in: int, num_out: int, size: int) -> Tensor:
    """Weights of a random convolution that keeps the scale of its input."""
    return torch.randn(num_out, num_in, size, size) / math.sqrt(num_in * size * size)
