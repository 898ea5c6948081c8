"""Mask R-CNN by torchvision: COCO v1 and v2 weights, your own state dict, or the sandbox's.

The architecture is read off the state dict. Masks stay on their 28 x 28 grid: pasting them into the full
picture costs more than the network and adds nothing to an area or an outline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from lhq.errors import InputError
from lhq.measures import coco
from lhq.measures.detectors import MASK_SIDE, Detections, Wanted
from lhq.measures.prefetch import Fit, Pixels
from lhq.measures.weights import cached, fingerprint, tensors

_ZOO = {
    "coco": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "coco-v1": detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "coco-v2": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}


class _Prepared(nn.Module):
    """Stands where torchvision resizes and pastes: pictures come fitted, masks stay in their boxes."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], fit: Fit) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.fit = fit

    def forward(self, images: list[Tensor], targets: None = None) -> tuple[ImageList, None]:
        canvas = [-(-max(im.shape[d] for im in images) // self.fit.canvas_px) * self.fit.canvas_px for d in (1, 2)]
        batch_BCHW = torch.zeros((len(images), 3, *canvas), device=self.mean.device)
        for row, image in zip(batch_BCHW, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = (image.float() / 255 - self.mean) / self.std
        batch_BCHW = batch_BCHW.contiguous(memory_format=torch.channels_last)
        return ImageList(batch_BCHW, [(int(im.shape[1]), int(im.shape[2])) for im in images]), None

    def postprocess(self, result: list[dict[str, Tensor]], shown: object, original: object) -> list[dict[str, Tensor]]:
        return result


def _floats(module: nn.Module, args: object, output: Any) -> Any:
    """Boxes are decoded in float32: half a pixel of a 1,333 px picture is below half precision's step."""
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_floats(module, args, part) for part in output)


def _float_anchors(module: nn.Module, args: tuple[ImageList, list[Tensor]]) -> tuple[ImageList, list[Tensor]]:
    """Anchors take shape and dtype from the features; in half precision they would move by half a pixel."""
    images, features = args
    return images, [feature[:1, :1].float() for feature in features]


class TorchvisionDetector:
    """A torchvision Mask R-CNN behind the `Detector` protocol."""

    def __init__(self, model: detection.MaskRCNN, labels: Sequence[str], name: str, fit: Fit, wanted: Wanted) -> None:
        self.name, self.fit, self.labels = name, fit, tuple(labels)
        self.device, self.is_half = torch.device(wanted.device), wanted.half
        model.roi_heads.score_thresh = wanted.low_score
        model.transform = _Prepared(model.transform.image_mean, model.transform.image_std, fit)
        for head in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
            head.register_forward_hook(_floats)
        model.rpn.anchor_generator.register_forward_pre_hook(_float_anchors)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """See `Detector.detect`."""
        given = [upload(image, self.device) for image in images]
        with half(self.device, self.is_half):
            found = self.model(given)
        return [
            pack(
                [self.labels[int(label)] for label in one["labels"].tolist()],
                one["scores"],
                one["boxes"],
                one["masks"],
                image.shape[:2],
            )
            for one, image in zip(found, images, strict=True)
        ]


def upload(image: Pixels, device: torch.device) -> Tensor:
    """uint8 [H, W, 3] → uint8 [3, H, W] on the device; bytes travel, not floats."""
    tensor = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True).permute(2, 0, 1)


def half(device: torch.device, is_half: bool) -> contextlib.AbstractContextManager[object]:
    """Half precision for the convolutions, or nothing."""
    return torch.autocast(device.type, torch.float16) if is_half else contextlib.nullcontext()


def pack(
    labels: list[str], scores_N: Tensor, boxes_N4: Tensor, masks_N1MM: Tensor, shape: tuple[int, ...]
) -> Detections:
    """Detections from a model's tensors; boxes in pixels of `shape` (height, width), masks as probabilities.

    The area is counted on the mask grown four times bilinearly, nearer to the pasted mask's than on 28 x 28 cells.
    """
    height, width = shape
    size = boxes_N4.new_tensor([width, height, width, height])
    shares_N4 = (boxes_N4.float() / size).clamp(0, 1)
    masks_N1MM = masks_N1MM.float()
    if len(labels):
        grown = nn.functional.interpolate(masks_N1MM, scale_factor=4, mode="bilinear", align_corners=False)
        cover_N = (grown >= 0.5).float().mean((1, 2, 3))
    else:
        cover_N = scores_N.new_zeros(0)
    box_N = (shares_N4[:, 2] - shares_N4[:, 0]) * (shares_N4[:, 3] - shares_N4[:, 1])
    bits_NM = (masks_N1MM >= 0.5).flatten(1).cpu().numpy()
    return Detections(
        classes=tuple(labels),
        scores_N=scores_N.float().cpu().numpy(),
        boxes_N4=shares_N4.cpu().numpy(),
        areas_N=(box_N * cover_N).float().cpu().numpy(),
        masks_N=np.packbits(bits_NM.reshape(len(labels), MASK_SIDE * MASK_SIDE), axis=1),
    )


def load(wanted: Wanted) -> TorchvisionDetector:
    """The detector that `wanted.weights` names.

    Raises:
        WeightsMissing: COCO weights that are not cached and can't be fetched.
        InputError: a file that is not a torchvision Mask R-CNN, or with classes nobody named.
    """
    if wanted.weights == "sandbox":
        from lhq.sandbox.detector import load as load_sandbox

        model, labels = load_sandbox()
        fit = Fit(wanted.short_px or model.transform.min_size[-1], wanted.long_px or model.transform.max_size)
        return TorchvisionDetector(model, ["", *labels], "torchvision sandbox", fit, wanted)
    if wanted.weights in _ZOO:
        path, title = cached(_ZOO[wanted.weights].url), wanted.weights
    else:
        path = Path(wanted.weights)
        title = path.name
    state = tensors(path)
    model, num_classes = _architecture(state, path)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise InputError(
            f"{path}: not torchvision's Mask R-CNN ({len(missing)} tensors missing, {len(unexpected)} unknown, "
            f"first {(missing + unexpected)[0]})",
            hint="give a state dict of maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2",
        )
    fit = Fit(wanted.short_px or 800, wanted.long_px or 1333)
    return TorchvisionDetector(
        model, _labels(num_classes, wanted, path), f"torchvision {title} {fingerprint(path)}", fit, wanted
    )


def _architecture(state: dict[str, Tensor], path: Path) -> tuple[detection.MaskRCNN, int]:
    head = state.get("roi_heads.box_predictor.cls_score.weight")
    shapes = {key: getattr(state.get(key), "shape", None) for key in state}
    if head is None or "roi_heads.mask_predictor.mask_fcn_logits.weight" not in shapes:
        raise InputError(
            f"{path}: not torchvision's Mask R-CNN (no box and mask predictor among its {len(state)} tensors)",
            hint='detectron2 files need backend = "detectron2"',
        )
    build = (
        detection.maskrcnn_resnet50_fpn
        if "roi_heads.box_head.fc6.weight" in state
        else detection.maskrcnn_resnet50_fpn_v2
    )
    try:
        # v1 has frozen batch norms only when told that a backbone is pretrained: they are the same sums in eval mode.
        model = build(weights=None, weights_backbone=None, num_classes=head.shape[0])
    except RuntimeError as error:
        raise InputError(f"{path}: can't be built ({error})", hint="give an unmodified Mask R-CNN") from None
    return model, int(head.shape[0])


def _labels(num_classes: int, wanted: Wanted, path: Path) -> list[str]:
    """Names by label number; label 0 is the background."""
    if wanted.classes:
        if len(wanted.classes) + 1 != num_classes:
            raise InputError(
                f"{path}: knows {num_classes - 1} classes, [filter.objects] names gives {len(wanted.classes)}",
                hint="name every class once, in the order of training",
            )
        return ["", *wanted.classes]
    if num_classes == 91:
        return list(_ZOO["coco"].meta["categories"])
    if num_classes == len(coco.CLASSES) + 1:
        return ["", *coco.CLASSES]
    raise InputError(
        f"{path}: knows {num_classes - 1} classes, and nothing says which",
        hint='name them in order: names = ["tree", …]',
    )
