"""Left half or right half: the classifier behind connectability, and its training.

A photo whose halves are easy to tell apart has a side that can't be continued: light falls from one side, a
house stands on one side. Training sees each photo plain and mirrored, so what it learns is about sides of
pictures, not about directions.
Source: Skorokhodov, Sotnikov, Elhoseiny 2021, "Aligning Latent and Image Spaces to Connect the Unconnectable",
Algorithm 1.
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lhq.errors import InputError, RunError
from lhq.measures.weights import cached, tensors

log = logging.getLogger("lhq")
WIDE_RESNET_URL = "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth"
LEFT, RIGHT = 0, 1
Squares = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Training:
    """The published recipe; `batch` counts halves."""

    epochs: int = 10
    batch: int = 64
    lr_backbone: float = 1e-5
    lr_head: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights of the best epoch, and its loss (nats) and accuracy on the validation photos."""

    state: dict[str, Tensor]
    loss: float
    accuracy: float


class Tiny(nn.Sequential):
    """Four convolutions from scratch, 128 features: for demos and machines without weights."""

    def __init__(self) -> None:
        widths = (3, 16, 32, 64, 128)
        super().__init__(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in itertools.pairwise(widths)
            ),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class HalfClassifier(nn.Module):
    """Halves uint8 [B, 3, H, W] → logits of (left, right), float32 [B, 2]."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, num_features: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(num_features, 2)
        # ImageNet's colour statistics, RGB, 0..255.
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([58.395, 57.12, 57.375])[:, None, None], persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone((x_BCHW.float() - self.mean) / self.std))
        return logits.float()


def build(backbone: str, *, pretrained: bool) -> HalfClassifier:
    """The classifier with a backbone of `wide_resnet50_2`, `tiny`, or a state dict of the former at a path.

    Args:
        pretrained: false where a fit's own weights are loaded next.

    Raises:
        WeightsMissing: ImageNet's weights are not on disk and can't be fetched.
        InputError: the file is not a wide_resnet50_2.
    """
    if backbone == "tiny":
        return HalfClassifier(Tiny(), 128)
    from torchvision.models import wide_resnet50_2

    network = wide_resnet50_2(weights=None)
    if pretrained:
        path = cached(WIDE_RESNET_URL) if backbone == "wide_resnet50_2" else Path(backbone)
        state = {name: value for name, value in tensors(path).items() if not name.startswith("fc.")}
        try:
            missing, _ = network.load_state_dict(state, strict=False)
        except RuntimeError as error:
            said = str(error).splitlines()[-1].strip()
            raise InputError(f"{path}: not a wide_resnet50_2 ({said})", hint="give torchvision's state dict") from None
        if lost := [name for name in missing if not name.startswith("fc.")]:
            raise InputError(
                f"{path}: not a wide_resnet50_2 ({len(lost)} tensors missing, first {lost[0]})",
                hint="give torchvision's state dict",
            )
    network.fc = nn.Identity()
    return HalfClassifier(network, 2048)


def cut(squares_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Left and right halves, [B, 3, H, W / 2] each, of uint8 squares [B, H, W, 3]."""
    x_BCHW = squares_BHWC.permute(0, 3, 1, 2)
    middle = x_BCHW.shape[3] // 2
    return x_BCHW[..., :middle], x_BCHW[..., -middle:]


@torch.inference_mode()
def sides(model: HalfClassifier, squares: Sequence[Squares], device: torch.device) -> npt.NDArray[np.float64]:
    """P(left | left half) and P(right | right half) of each square, [B, 2]."""
    left, right = cut(torch.from_numpy(np.stack(squares)).to(device))
    logits = model(torch.cat([left, right])).double()
    chances = logits.softmax(1)
    count = len(squares)
    return torch.stack([chances[:count, LEFT], chances[count:, RIGHT]], dim=1).cpu().numpy()


def train(
    model: HalfClassifier, squares: Squares, validation: Squares, recipe: Training, device: torch.device
) -> Trained:
    """Train on `squares`, uint8 [N, S, S, 3]; the epoch with the least loss on `validation` is the result.

    Out of GPU memory halves the part of a batch that is computed at once; the batch stays what it is.
    """
    model = model.to(device)
    optimiser = torch.optim.Adam(
        [
            {"params": model.backbone.parameters(), "lr": recipe.lr_backbone},
            {"params": model.head.parameters(), "lr": recipe.lr_head},
        ]
    )
    random = np.random.default_rng(recipe.seed)
    step = _Step(model, optimiser, device, part=recipe.batch)
    best: Trained | None = None
    for epoch in range(recipe.epochs):
        model.train()
        order = random.permutation(2 * len(squares))
        for start in range(0, len(order), recipe.batch):
            photo, side = np.divmod(order[start : start + recipe.batch], 2)
            mirrored = random.random(len(photo)) < 0.5
            step(halves(squares, photo, side, mirrored), torch.from_numpy(side))
        loss, accuracy = _validate(model, validation, recipe.batch, device)
        log.info(
            "connectability: epoch %d of %d, loss %.3f, %.0f%% told", epoch + 1, recipe.epochs, loss, 100 * accuracy
        )
        if best is None or loss < best.loss:
            best = Trained(copy.deepcopy({k: v.cpu() for k, v in model.state_dict().items()}), loss, accuracy)
    assert best is not None
    return best


def halves(squares: Squares, photo: np.ndarray, side: np.ndarray, mirrored: np.ndarray) -> Tensor:
    """Half `side` of the picture `photo`, mirrored before it is cut where asked: uint8 [B, 3, S, S / 2]."""
    middle = squares.shape[2] // 2
    batch = np.empty((len(photo), squares.shape[1], middle, 3), np.uint8)
    for row, (index, which, is_mirrored) in enumerate(zip(photo, side, mirrored, strict=True)):
        square = squares[index]
        if is_mirrored:
            square = square[:, ::-1]
        batch[row] = square[:, :middle] if which == LEFT else square[:, -middle:]
    return torch.from_numpy(batch).permute(0, 3, 1, 2)


class _Step:
    """One step of the optimiser on a batch, in as many parts as memory asks for."""

    def __init__(
        self, model: HalfClassifier, optimiser: torch.optim.Optimizer, device: torch.device, part: int
    ) -> None:
        self.model, self.optimiser, self.device, self.part = model, optimiser, device, part
        self._has_said = False

    def __call__(self, batch_BCHW: Tensor, side_B: Tensor) -> None:
        while not self._tried(batch_BCHW, side_B):
            if self.part == 1:
                raise RunError(
                    "[filter.connectability]: the GPU's memory does not hold one half",
                    hint='free the GPU, or set device = "cpu"',
                )
            self.part = min(self.part, len(batch_BCHW)) // 2
            torch.cuda.empty_cache()
            if not self._has_said:
                log.warning("[filter.connectability]: GPU memory ran out; going on in parts of %d", self.part)
                self._has_said = True

    def _tried(self, batch_BCHW: Tensor, side_B: Tensor) -> bool:
        self.optimiser.zero_grad(set_to_none=True)
        try:
            for x, y in zip(torch.split(batch_BCHW, self.part), torch.split(side_B, self.part), strict=True):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                    logits = self.model(x.to(self.device))
                loss = F.cross_entropy(logits, y.to(self.device), reduction="sum") / len(batch_BCHW)
                loss.backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            return False
        self.optimiser.step()
        return True


@torch.inference_mode()
def _validate(model: HalfClassifier, squares: Squares, batch: int, device: torch.device) -> tuple[float, float]:
    model.eval()
    parts = [sides(model, list(squares[at : at + batch]), device) for at in range(0, len(squares), batch)]
    chances = np.concatenate(parts)
    return float(-np.log(np.maximum(chances, 1e-12)).mean()), float((chances > 0.5).mean())
