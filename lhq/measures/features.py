"""Pictures → feature vectors, for measures of how typical a picture is.

`inception` is the paper's choice, `dinov2` today's; a path takes any TorchScript or torch.export program.
`thumbnail` needs no weights and no torch: handmade colour, contrast and edge features. It tells a screenshot or a
night shot from a meadow, but not a field from a golf course; it is for demos and machines without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lhq.errors import InputError
from lhq.measures.prefetch import Fit, Pixels
from lhq.measures.weights import cached, fingerprint, is_torchscript, tensors

Floats = npt.NDArray[np.floating]
INCEPTION_URL = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
# ImageNet's colour statistics, RGB, 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Extractor(Protocol):
    """`name` says what makes the features; pictures come as uint8 [H, W, 3] of `fit`."""

    name: str
    fit: Fit
    num_features: int

    def extract(self, images: Sequence[Pixels]) -> Floats:
        """One row of features per picture, [B, D]."""
        ...


def open_extractor(kind: str, device: str) -> Extractor:
    """The extractor that a setting names: `inception`, `dinov2`, `thumbnail`, or the path of a program.

    Raises:
        WeightsMissing: the weights are not on disk and can't be fetched.
        InputError: the file is not a program, or its features are not vectors.
    """
    if kind == "thumbnail":
        return Thumbnail()
    if kind == "inception":
        return Network(*_inception(cached(INCEPTION_URL)), side_px=299, mean=_MEAN, std=_STD, device=device)
    if kind == "dinov2":
        from lhq.measures.dinov2 import vit_small

        path = cached(DINOV2_URL)
        model = vit_small().eval()
        model.load_state_dict(tensors(path))
        return Network(model, f"dinov2 {fingerprint(path)}", side_px=224, mean=_MEAN, std=_STD, device=device)
    path = Path(kind)
    if not path.is_file():
        raise InputError(
            f"[filter.outliers]: features = {kind!r} is not a file",
            hint="set inception, dinov2, thumbnail, or the path of a TorchScript or torch.export program",
        )
    import torch

    program: Any
    if is_torchscript(path):
        program = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    else:
        try:
            program = torch.export.load(path).module()
        except Exception as error:
            raise InputError(
                f"{path}: not a TorchScript or torch.export program ({str(error).splitlines()[0]})",
                hint="torch.export.save(…, 'x.pt2') of a model that takes float [B, 3, 224, 224] in 0..1, gives [B, D]",
            ) from None
    return Network(
        program,
        f"{path.name} {fingerprint(path)}",
        side_px=224,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        device=device,
    )


def _inception(path: Path) -> tuple[Any, str]:
    import torch
    from torchvision.models import inception_v3

    model = inception_v3(weights=None, init_weights=False, aux_logits=True, transform_input=True).eval()
    model.load_state_dict(tensors(path))
    model.fc = torch.nn.Identity()
    return model, f"inception {fingerprint(path)}"


class Network:
    """A torch module in eval mode as an extractor; the picture is resized to a square, as for FID."""

    def __init__(
        self, model: Any, name: str, *, side_px: int, mean: Sequence[float], std: Sequence[float], device: str
    ) -> None:
        import torch

        self.name, self.fit = name, Fit(side_px, side_px, square="pressed")
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.mean = torch.tensor(mean, device=self.device)[:, None, None]
        self.std = torch.tensor(std, device=self.device)[:, None, None]
        blank = np.zeros((side_px, side_px, 3), np.uint8)
        shape = self.extract([blank, blank]).shape
        if len(shape) != 2 or shape[0] != 2:
            raise InputError(f"{name}: gives features of shape {shape}", hint="one row per picture: [B, D]")
        self.num_features = shape[1]

    def extract(self, images: Sequence[Pixels]) -> Floats:
        """See `Extractor.extract`; float32, computed in full precision."""
        import torch

        with torch.inference_mode():
            batch_BCHW = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
            features: Floats = self.model((batch_BCHW - self.mean) / self.std).float().cpu().numpy()
        return features


class Thumbnail:
    """83 figures by hand: colour and contrast on a 4 x 4 grid, edge directions above and below, edges by scale."""

    name, num_features = "thumbnail 1", 83
    fit = Fit(96, 96, square="pressed")

    def extract(self, images: Sequence[Pixels]) -> Floats:
        """See `Extractor.extract`; float64."""
        return np.stack([self._one(image) for image in images])

    @staticmethod
    def _one(image: Pixels) -> Floats:
        rgb = image.astype(np.float64) / 255
        luma = rgb @ [0.299, 0.587, 0.114]
        colour = np.stack([luma, rgb[..., 2] - luma, rgb[..., 0] - luma], axis=-1)
        cells = colour.reshape(4, 24, 4, 24, 3)
        parts = [cells.mean((1, 3)).ravel(), cells[..., 0].std((1, 3)).ravel()]
        dy, dx = np.gradient(luma)
        strength = np.hypot(dx, dy)
        bins = ((np.arctan2(dy, dx) % np.pi) / np.pi * 8).astype(int) % 8
        for half in (slice(0, 48), slice(48, 96)):
            histogram = np.bincount(bins[half].ravel(), strength[half].ravel(), 8)
            parts.append(histogram / (histogram.sum() + 1e-3))
        for scale in (1, 2, 4):
            small = luma.reshape(96 // scale, scale, 96 // scale, scale).mean((1, 3))
            parts.append(np.log([np.abs(np.diff(small, axis=1)).mean() + 1e-4]))
        return np.concatenate(parts)
