"""Pictures → detections: the protocol of all object detectors, and the choice among them.

`auto` uses detectron2 if it can be imported, as the paper did, else torchvision; the log says which, once.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from lhq.errors import ConfigError
from lhq.measures.prefetch import Fit, Pixels

log = logging.getLogger("lhq")
Backend = Literal["auto", "detectron2", "torchvision"]
MASK_SIDE = 28

# Names of `weights` that only one backend knows; any other name that is not a file is "coco" or a mistake.
OWNED: dict[str, Literal["detectron2", "torchvision"]] = {
    "coco-v1": "torchvision",
    "coco-v2": "torchvision",
    "sandbox": "torchvision",
    "coco-r50": "detectron2",
    "coco-x101": "detectron2",
}


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections in one picture: N objects by descending score.

    boxes_N4: x0, y0, x1, y1 as shares of width and height, 0..1. areas_N: share of the picture's area under
    the mask, 0..1. masks_N: the mask inside the box on a 28 x 28 grid, packed bits, rows from the top, uint8 [N, 98].
    """

    classes: tuple[str, ...]
    scores_N: npt.NDArray[np.float32]
    boxes_N4: npt.NDArray[np.float32]
    areas_N: npt.NDArray[np.float32]
    masks_N: npt.NDArray[np.uint8]


class Detector(Protocol):
    """`name` says backend, architecture and weights, and is kept with every fact; `fit` is the size it wants."""

    name: str
    fit: Fit

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """One result per image; images are upright RGB uint8 [H, W, 3], already fitted, of one canvas."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a loader needs to know. `short_px`, `long_px` None: the size the weights were trained at."""

    weights: str
    low_score: float
    short_px: int | None
    long_px: int | None
    device: str
    half: bool
    classes: tuple[str, ...]


def choose(backend: Backend, weights: str) -> Literal["detectron2", "torchvision"]:
    """The backend to use, imported and working.

    Raises:
        ConfigError: the backend does not know these weights, or is not installed.
    """
    owner = OWNED.get(weights)
    if owner and backend not in {"auto", owner}:
        raise ConfigError(
            f'[filter.objects]: weights = "{weights}" is {owner}\'s, backend = "{backend}"',
            hint=f'set backend = "auto" or "{owner}", or weights = "coco"',
        )
    if backend == "auto" and owner != "torchvision" and not weights.endswith(".safetensors"):
        try:
            importlib.import_module("detectron2.modeling")
            return "detectron2"
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "detectron2":
                log.warning("objects: detectron2 is installed but does not import (%s); using torchvision", error)
        except (ImportError, OSError) as error:
            log.warning("objects: detectron2 is installed but does not import (%s); using torchvision", error)
    wanted: Literal["detectron2", "torchvision"] = "detectron2" if "detectron2" in {backend, owner} else "torchvision"
    needed = "detectron2.modeling" if wanted == "detectron2" else "torchvision"
    try:
        importlib.import_module(needed)
    except ImportError as error:
        where = (
            'install it from github.com/facebookresearch/detectron2, or set backend = "torchvision"'
            if wanted == "detectron2"
            else 'pip install "lhq[ml]"'
        )
        raise ConfigError(f"[filter.objects]: {wanted} can't be imported ({error})", hint=where) from None
    return wanted


def open_detector(backend: Backend, wanted: Wanted) -> Detector:
    """The detector, on its device, ready.

    Raises:
        ConfigError: see `choose`.
        WeightsMissing: the weights are not on disk and can't be fetched.
        InputError: the weights file is not a Mask R-CNN of this backend.
    """
    module = importlib.import_module(f"lhq.measures.detectors.{choose(backend, wanted.weights)}")
    detector: Detector = module.load(wanted)
    log.info("objects: %s on %s", detector.name, wanted.device)
    return detector
