"""Mask R-CNN by detectron2, as the paper did: R50 and X101 of its model zoo, or your own file.

The zoo's module needs `pkg_resources`, which setuptools has dropped; the configs beside it are read directly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import ImageList

from lhq.errors import InputError
from lhq.measures import coco
from lhq.measures.detectors import Detections, Wanted
from lhq.measures.detectors.torchvision import half, pack, upload
from lhq.measures.prefetch import Fit, Pixels
from lhq.measures.weights import cached, fingerprint, tensors

_URL = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation"
# Source: detectron2's MODEL_ZOO.md; config → model id and file.
_ZOO = {
    "mask_rcnn_R_50_FPN_3x": "137849600/model_final_f10217.pkl",
    "mask_rcnn_X_101_32x8d_FPN_3x": "139653917/model_final_2d9806.pkl",
}
_NAMES = {
    "coco": "mask_rcnn_R_50_FPN_3x",
    "coco-r50": "mask_rcnn_R_50_FPN_3x",
    "coco-x101": "mask_rcnn_X_101_32x8d_FPN_3x",
}


class Detectron2Detector:
    """A detectron2 GeneralizedRCNN behind the `Detector` protocol."""

    def __init__(self, model: Any, cfg: Any, labels: Sequence[str], name: str, wanted: Wanted) -> None:
        self.name, self.labels = name, tuple(labels)
        self.fit = Fit(wanted.short_px or cfg.INPUT.MIN_SIZE_TEST, wanted.long_px or cfg.INPUT.MAX_SIZE_TEST)
        self.model, self.device, self.is_half = model, torch.device(wanted.device), wanted.half
        self.is_bgr = cfg.INPUT.FORMAT == "BGR"

    @torch.inference_mode()
    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """See `Detector.detect`. The three steps are `GeneralizedRCNN.inference` on our canvas, masks unpasted."""
        given = []
        for image in images:
            tensor_CHW = upload(image, self.device)
            tensor_CHW = tensor_CHW.flip(0) if self.is_bgr else tensor_CHW
            given.append((tensor_CHW.float() - self.model.pixel_mean) / self.model.pixel_std)
        batch = ImageList.from_tensors(given, self.fit.canvas_px)
        with half(self.device, self.is_half):
            features = self.model.backbone(batch.tensor)
            proposals, _ = self.model.proposal_generator(batch, features, None)
            found, _ = self.model.roi_heads(batch, features, proposals, None)
        found = [one[one.pred_boxes.nonempty()] for one in found]
        return [
            pack(
                [self.labels[label] for label in one.pred_classes.tolist()],
                one.scores,
                one.pred_boxes.tensor,
                one.pred_masks,
                image.shape[:2],
            )
            for one, image in zip(found, images, strict=True)
        ]


def load(wanted: Wanted) -> Detectron2Detector:
    """The detector that `wanted.weights` names.

    Raises:
        WeightsMissing: zoo weights that are not cached and can't be fetched.
        InputError: a file that is not a detectron2 Mask R-CNN, or with classes nobody named.
    """
    if wanted.weights in _NAMES:
        path, title = _zoo_file(_NAMES[wanted.weights]), wanted.weights
    else:
        path = Path(wanted.weights)
        title = path.name
    state = tensors(path)
    config, num_classes = _recognise(state, path)
    labels = wanted.classes or coco.CLASSES
    if len(labels) != num_classes:
        raise InputError(
            f"{path}: knows {num_classes} classes, {len(labels)} are named",
            hint='name every class once, in the order of training: names = ["tree", …]',
        )
    cfg = get_cfg()
    folder = Path(os.path.dirname(detectron2.__file__)) / "model_zoo" / "configs" / "COCO-InstanceSegmentation"
    cfg.merge_from_file(str(folder / f"{config}.yaml"))
    cfg.MODEL.DEVICE = wanted.device
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = wanted.low_score
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    model = build_model(cfg).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    # Files of older versions hold constants that the config holds now.
    unexpected = [name for name in unexpected if not name.startswith(("pixel_", "proposal_generator.anchor_generator"))]
    if missing or unexpected:
        raise InputError(
            f"{path}: not {config} ({len(missing)} tensors missing, {len(unexpected)} unknown, "
            f"first {[*missing, *unexpected][0]})",
            hint="give an unmodified Mask R-CNN with FPN",
        )
    return Detectron2Detector(model, cfg, labels, f"detectron2 {title} {fingerprint(path)}", wanted)


def _zoo_file(config: str) -> Path:
    """Where detectron2 itself caches the file, so that neither fetches it twice."""
    cache = Path(os.environ.get("FVCORE_CACHE", "~/.torch/iopath_cache")).expanduser()
    tail = f"{config}/{_ZOO[config]}"
    return cached(f"{_URL}/{tail}", cache / "detectron2" / "COCO-InstanceSegmentation" / tail)


def _recognise(state: dict[str, torch.Tensor], path: Path) -> tuple[str, int]:
    """The zoo config that has these tensors, and its number of classes."""
    head = state.get("roi_heads.box_predictor.cls_score.weight")
    middle = state.get("backbone.bottom_up.res2.0.conv2.weight")
    if head is None or middle is None or not any(key.startswith("roi_heads.mask_head.") for key in state):
        raise InputError(
            f"{path}: not detectron2's Mask R-CNN with FPN (no box and mask head among its {len(state)} tensors)",
            hint='torchvision files need backend = "torchvision"',
        )
    is_x101 = middle.shape[1] == 8  # 256 channels in 32 groups
    is_r101 = not is_x101 and "backbone.bottom_up.res4.22.conv1.weight" in state
    config = "X_101_32x8d" if is_x101 else "R_101" if is_r101 else "R_50"
    return f"mask_rcnn_{config}_FPN_3x", int(head.shape[0]) - 1
