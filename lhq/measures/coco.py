"""The eighty classes of COCO detectors, and the nearest name to an unknown one.

Order and spelling are COCO 2017's (`instances_val2017.json`), which is also that of every model here.
Source: https://cocodataset.org, Lin et al. 2014.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

CLASSES: tuple[str, ...] = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)

# Common synonyms of COCO classes.
_SYNONYMS = {
    "people": "person",
    "human": "person",
    "man": "person",
    "woman": "person",
    "plane": "airplane",
    "aeroplane": "airplane",
    "ship": "boat",
    "sailboat": "boat",
    "bike": "bicycle",
    "motorbike": "motorcycle",
    "lorry": "truck",
    "sofa": "couch",
    "television": "tv",
    "phone": "cell phone",
    "table": "dining table",
    "doughnut": "donut",
    "plant": "potted plant",
    "fridge": "refrigerator",
    "cattle": "cow",
}


def check(names: Iterable[str], known: Sequence[str] = CLASSES, whose: str = "COCO") -> None:
    """Nothing, if `known` holds every name.

    Raises:
        ValueError: names the first unknown one and the nearest known one.
    """
    for name in names:
        if name in known:
            continue
        near = [synonym] if (synonym := _SYNONYMS.get(name.lower().rstrip("s"), "")) in known else []
        near = near or ([_SYNONYMS[name.lower()]] if _SYNONYMS.get(name.lower()) in known else [])
        near = near or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        tail = f'did you mean "{near[0]}"?' if near else f"it knows {', '.join(known[:5])}, …"
        raise ValueError(f'{whose} has no class "{name}"; {tail}')
