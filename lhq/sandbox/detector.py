"""The sandbox's own Mask R-CNN: a small torchvision one that knows the six kinds of objects that the sandbox draws.

It is only for the demo and the tests: `python -m lhq.sandbox.train_detector` trained it on painted scenes, so that
the real object filter runs offline. It knows nothing about photographs; real crawls use COCO weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from lhq.errors import WeightsMissing
from lhq.sandbox.objects import OBJECTS

CLASSES: tuple[str, ...] = tuple(OBJECTS)
"""Names of the labels 1, 2, …; 0 is the background."""
MIN_SCORE = 0.5
"""The lowest score of a detection that should count."""
WEIGHTS = Path(__file__).with_name("detector.safetensors")
_CHANNELS = 64


def build() -> MaskRCNN:
    """The untrained network: MobileNetV3-Small to stride 32, a pyramid of 64 channels, light heads; 1.7 M weights.

    Takes pictures as torchvision does (a list of float [3, H, W] in 0 … 1), scales them to a short side of 256 px,
    and returns its usual dicts of boxes, labels, scores and masks.
    """
    stages = mobilenet_v3_small(weights=None).features
    body = BackboneWithFPN(stages, {"3": "0", "8": "1", "11": "2"}, [24, 48, 96], _CHANNELS)
    heads = len(CLASSES) + 1
    return MaskRCNN(
        body,
        min_size=256,
        max_size=512,
        image_mean=[0.45, 0.45, 0.45],
        image_std=[0.27, 0.27, 0.27],
        rpn_anchor_generator=AnchorGenerator(((24, 36), (52, 76), (108, 150), (210, 280)), ((0.5, 1.0, 2.0),) * 4),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=150,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_test=60,
        rpn_batch_size_per_image=128,
        box_batch_size_per_image=64,
        box_detections_per_img=20,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
        box_head=TwoMLPHead(_CHANNELS * 49, 160),
        box_predictor=FastRCNNPredictor(160, heads),
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 14, 2),
        mask_head=MaskRCNNHeads(_CHANNELS, (48, 48), 1),
        mask_predictor=MaskRCNNPredictor(48, 48, heads),
    )


def load(path: Path | None = None) -> tuple[MaskRCNN, tuple[str, ...]]:
    """The trained detector in eval mode on the CPU, and the names of its labels 1, 2, ….

    Raises:
        WeightsMissing: the package came without its weights.
    """
    from safetensors import safe_open

    path = path or WEIGHTS
    if not path.is_file():
        raise WeightsMissing(
            f"{path}: the sandbox detector's weights are missing",
            hint=f"train them: python -m lhq.sandbox.train_detector --out {path}",
        )
    with safe_open(path, framework="pt") as file:
        classes = json.loads((file.metadata() or {}).get("classes", "[]"))
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    if tuple(classes) != CLASSES:
        raise WeightsMissing(
            f"{path}: made for the classes {classes}, not {list(CLASSES)}",
            hint=f"train them anew: python -m lhq.sandbox.train_detector --out {path}",
        )
    model = build()
    missing = model.load_state_dict(state, strict=False).missing_keys  # batch counters are no longer needed
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    return model.eval(), CLASSES


def save(model: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Save half-precision weights, with a note on their purpose."""
    from safetensors.torch import save_file

    state = {name: one.half().contiguous() for name, one in model.state_dict().items() if one.is_floating_point()}
    note = {
        "what": "Mask R-CNN of the lhq sandbox: knows painted objects only, for its demo and tests; "
        "use COCO weights for photographs",
        "classes": json.dumps(CLASSES),
        "min_score": str(MIN_SCORE),
        **{name: json.dumps(value) for name, value in facts.items()},
    }
    save_file(state, path, metadata=note)


def dropped_at(model: MaskRCNN, image: torch.Tensor, scores: Iterable[float], max_area: float = 0.01) -> list[bool]:
    """Whether objects cover more than `max_area` of a picture (float [3, H, W], 0 … 1), as the object filter judges
    it, for each minimum score of a detection."""
    with torch.inference_mode():
        (found,) = model([image])
    shares = (found["masks"] >= 0.5).flatten(1).float().mean(dim=1)
    return [float(shares[found["scores"] >= score].sum()) > max_area for score in scores]


def dropped(model: MaskRCNN, image: torch.Tensor) -> bool:
    """Whether the object filter drops this picture (float [3, H, W], 0 … 1) at its default limits."""
    return dropped_at(model, image, [MIN_SCORE])[0]
