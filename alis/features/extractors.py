"""Pictures → features, by an extractor whose name and version are reported with every metric.

inception     InceptionV3 of the original FID, from torch-fidelity: comparable with published figures
torchvision   torchvision's ImageNet InceptionV3, pooled: comparable only with itself
lite0, lite2  EfficientNet-Lite0 or 2, trained on ImageNet, weights from Python packages: comparable only with itself
detector      backbone of the sandbox's packaged detector, trained on painted scenes: only for those, and with itself
random        a convolutional pyramid with random weights from a fixed seed: says little, but needs no weights
PATH          a TorchScript file (uint8 [B, 3, H, W] → [B, F]), or .safetensors of one of the two InceptionV3
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alis.errors import InputError, WeightsMissing
from alis.features.efficientnet_lite import MEAN, SIDES, STD, open_lite
from lhq import nearest

FIDELITY_FILE = "weights-inception-2015-12-05-6726825d.pth"
FIDELITY_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FIDELITY_FILE}"
NAMES = ("inception", "torchvision", "lite0", "lite2", "detector", "random")


@dataclass(frozen=True)
class Extractor:
    """Pictures uint8 [B, 3, H, W] → features float32 [B, num_features]; `name` includes the version."""

    name: str
    num_features: int
    run: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self.run(images).float().flatten(1)


def open_features(name: str, device: torch.device) -> Extractor:
    """Open the extractor of this name or file.

    Raises:
        WeightsMissing: its weights are not on disk and can't be downloaded.
        InputError: no such extractor, or a file that is not one.
    """
    if name in NAMES:
        made, label = _MAKERS[name]()
    elif Path(name).suffix in {".pt", ".ts", ".jit", ".safetensors"} or Path(name).exists():
        made, label = _from_file(Path(name))
    else:
        near = nearest.word(name, NAMES, "")
        hint = f"{near} use {', '.join(NAMES)} or a file (.pt, .safetensors)".strip()
        raise InputError(f"no features called {name!r}", hint=hint)
    module = made.to(device).eval()

    def run(images: Tensor) -> Tensor:
        result = module(images.to(device))
        first: Tensor = result[0] if isinstance(result, (tuple, list)) else result
        return first

    with torch.no_grad():
        probe = run(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    if not torch.is_tensor(probe) or len(probe) != 2:
        raise InputError(
            f"{name}: does not give one row of features per picture", hint="it must map [B,3,H,W] to [B,F]"
        )
    return Extractor(label, probe.flatten(1).shape[1], run)


def _inception() -> tuple[nn.Module, str]:
    made = _fidelity(_fetched(FIDELITY_URL, FIDELITY_FILE))
    return made, f"inception (torch-fidelity {importlib.metadata.version('torch-fidelity')})"


def _fidelity(weights: Path) -> nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise WeightsMissing("these features need torch-fidelity", hint="pip install torch-fidelity") from None
    made: nn.Module = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )
    return made


def _torchvision() -> tuple[nn.Module, str]:
    from torchvision.models import Inception_V3_Weights

    url = Inception_V3_Weights.IMAGENET1K_V1.url
    weights = torch.load(_fetched(url, url.rsplit("/", 1)[1]), map_location="cpu", weights_only=True)
    return _Pooled(weights), "torchvision inception_v3 IMAGENET1K_V1"


def _lite(number: int) -> tuple[nn.Module, str]:
    network, version = open_lite(number)
    return _Lite(network, SIDES[number]), f"EfficientNet-Lite{number} (ImageNet, weights {version})"


def _detector() -> tuple[nn.Module, str]:
    from lhq.sandbox import detector

    label = f"sandbox detector (sha256 {hashlib.sha256(detector.WEIGHTS.read_bytes()).hexdigest()[:16]})"
    return _Stages(detector.load()[0]), label


def _random() -> tuple[nn.Module, str]:
    return _Pyramid(), f"random pyramid (seed {_Pyramid.SEED})"


_MAKERS: dict[str, Callable[[], tuple[nn.Module, str]]] = {
    "inception": _inception,
    "torchvision": _torchvision,
    "lite0": partial(_lite, 0),
    "lite2": partial(_lite, 2),
    "detector": _detector,
    "random": _random,
}


def _from_file(path: Path) -> tuple[nn.Module, str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint=f"use {', '.join(NAMES)} or a file (.pt, .safetensors)")
    label = f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
    if path.suffix != ".safetensors":
        try:
            return torch.jit.load(str(path), map_location="cpu"), label
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"{path}: not TorchScript ({first})", hint="save it with torch.jit.save") from None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: can't be read ({error})", hint="copy the file again") from None
    if "Conv2d_1a_3x3.conv.weight" not in weights:
        raise InputError(f"{path}: not an InceptionV3", hint="give torchvision's or torch-fidelity's weights")
    try:
        if any(name.startswith("AuxLogits") for name in weights):
            return _Pooled(weights), label
        with tempfile.TemporaryDirectory() as folder:  # torch-fidelity reads its weights from a .pth file only
            torch.save(weights, f"{folder}/{FIDELITY_FILE}")
            return _fidelity(Path(folder) / FIDELITY_FILE), label
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path}: not an InceptionV3 ({first})", hint="give torchvision's or torch-fidelity's"
        ) from None


def _fetched(url: str, name: str) -> Path:
    """The file in torch's cache, whose name ends with the start of its sha256; downloaded if missing.

    Raises:
        WeightsMissing: it can't be downloaded, or has rotted.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    prefix = path.stem.rsplit("-", 1)[-1]
    if path.is_file():
        with path.open("rb") as file:
            if not hashlib.file_digest(file, "sha256").hexdigest().startswith(prefix):
                raise WeightsMissing(
                    f"{path}: its sha256 is not the one in its name", hint="remove it: it is fetched again"
                )
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
        except Exception as error:  # urllib, ssl and sockets raise different exceptions
            raise WeightsMissing(
                f"{name}: not on disk and can't be fetched ({error})",
                hint=f"download {url} to {path}, or use --features lite0",
            ) from None
    return path


def _resized(images: Tensor, size: int) -> Tensor:
    """uint8 [B, 3, H, W] → float in [0, 1], resized to size × size with anti-aliasing."""
    x = images.float() / 255
    return functional.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)


class _Pooled(nn.Module):
    """torchvision's InceptionV3 up to the pooled 2048 features."""

    def __init__(self, weights: dict[str, Any]) -> None:
        super().__init__()
        from torchvision.models import inception_v3

        self.network = inception_v3(weights=None, init_weights=False, aux_logits=True, transform_input=False)
        self.network.load_state_dict(weights)
        self.network.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(_resized(images, 299) * 2 - 1)
        return features


class _Lite(nn.Module):
    """An EfficientNet-Lite up to its pooled 1280 features, on pictures resized to `side` px."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        x = (_resized(images, self.side) - self.mean) / self.std
        features: Tensor = self.network.extract_features(x)  # type: ignore[operator]
        return features.mean(dim=(2, 3))


class _Stages(nn.Module):
    """Means and standard deviations of the detector's MobileNetV3 feature maps, at a quarter to a 32nd of 256 px."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.body = detector.backbone.body
        self.register_buffer("mean", torch.tensor(detector.transform.image_mean)[:, None, None])
        self.register_buffer("std", torch.tensor(detector.transform.image_std)[:, None, None])
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        x = (_resized(images, 256) - self.mean) / self.std
        maps = self.body(x).values()
        return torch.cat([part for m in maps for part in (m.mean(dim=(2, 3)), m.std(dim=(2, 3)))], dim=1)


class _Pyramid(nn.Module):
    """Means and standard deviations of random 3×3 convolution features at four scales, 2 × 64 per scale."""

    SEED = 20210804

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(self.SEED)
        widths = [3, 64, 64, 64, 64]
        for k in range(4):
            weight = torch.randn(widths[k + 1], widths[k], 3, 3, generator=draw) / (9 * widths[k]) ** 0.5
            self.register_buffer(f"weight{k}", weight)

    def forward(self, images: Tensor) -> Tensor:
        x, found = images.float() / 127.5 - 1, []
        for k in range(4):
            x = functional.leaky_relu(functional.conv2d(x, self.get_buffer(f"weight{k}"), padding=1), 0.2)
            found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            x = functional.avg_pool2d(x, 2)
        return torch.cat(found, dim=1)
