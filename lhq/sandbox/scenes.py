"""(seed, index) → scene: what each picture of the sandbox shows: the ground truth.

About two thirds are clean landscapes; the rest is work for the later stages: objects in the picture, near
duplicates of others, too small, corrupt. `catalogue` says which is which; nothing is painted until `encode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lhq.sandbox import places

VERSION = 2  # raised whenever the same scene would have other bytes

Kind = Literal["clean", "objects", "near-duplicate", "small", "corrupt"]
_SHARES: dict[Kind, float] = {"objects": 0.16, "near-duplicate": 0.10, "small": 0.06, "corrupt": 0.05}
SIZES = (
    (1536, 1024),
    (1365, 1024),
    (1280, 1024),
    (1440, 1080),
    (1600, 1067),
    (1820, 1024),
    (1024, 1280),
    (1024, 1024),
)
_SMALL = ((640, 427), (800, 600), (960, 640), (1200, 800), (1400, 1000), (720, 1023))
_DAMAGE = ("truncated", "html", "empty", "wrong bytes", "broken png")
_CHANGES = ("re-encoded", "resized", "cropped", "brightened", "as webp", "as png")


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture of the sandbox and the truth about it.

    `place` is the index whose landscape is painted: its own, or the original's for a near duplicate; `change` names
    the change to the bytes ("": none). `orientation` is the EXIF value of the stored file;
    `width_px`, `height_px` are upright.
    """

    seed: int
    index: int
    kind: Kind
    place: int
    width_px: int
    height_px: int
    title: str
    tags: tuple[str, ...]
    suffix: str
    change: str = ""
    orientation: int = 1


def catalogue(seed: int, num_scenes: int) -> Sequence[Scene]:
    """Every scene of a sandbox, without painting any."""
    rng = np.random.default_rng([seed, num_scenes, 11])
    kinds: list[Kind] = []
    for kind, share in _SHARES.items():
        kinds += [kind] * round(share * num_scenes)
    kinds += ["clean"] * (num_scenes - len(kinds))
    kinds = [kinds[i] for i in rng.permutation(num_scenes)]
    scenes = [_scene(seed, index, kind) for index, kind in enumerate(kinds)]
    clean = [scene for scene in scenes if scene.kind == "clean" and scene.orientation == 1]
    originals = rng.permutation(len(clean))
    copies = [scene for scene in scenes if scene.kind == "near-duplicate"]
    for turn, copy in enumerate(copies):
        scenes[copy.index] = (
            _copy_of(clean[originals[turn % len(clean)]], copy) if clean else replace(copy, kind="clean")
        )
    return scenes


def _scene(seed: int, index: int, kind: Kind) -> Scene:
    rng = np.random.default_rng([seed, index, 12])
    plan, hour = places.plan(seed, index, kind == "objects")
    sizes = _SMALL if kind == "small" else SIZES
    width, height = sizes[int(rng.integers(len(sizes)))]
    tags = tuple(dict.fromkeys([*plan.tags, *hour.tags, hour.name]))
    title = f"{hour.name.capitalize()} over the {plan.tags[0]}"
    suffix = str(rng.choice(["jpg", "jpg", "jpg", "jpg", "jpg", "jpg", "jpg", "jpg", "webp", "png"]))
    change, orientation = "", 1
    if kind == "corrupt":
        change = _DAMAGE[int(rng.integers(len(_DAMAGE)))]
        suffix = "png" if change == "broken png" else "jpg"
    elif kind == "clean" and suffix == "jpg" and rng.random() < 0.05:
        orientation = int(rng.choice([3, 6, 8]))
    return Scene(seed, index, kind, index, width, height, title, tags, suffix, change, orientation)


def _copy_of(original: Scene, copy: Scene) -> Scene:
    rng = np.random.default_rng([copy.seed, copy.index, 13])
    change = _CHANGES[int(rng.integers(len(_CHANGES)))]
    width, height = original.width_px, original.height_px
    if change in ("resized", "cropped"):
        scale = float(rng.uniform(1.03, 1.25))
        width, height = round(width * scale), round(height * scale)
    suffix = {"as webp": "webp", "as png": "png"}.get(change, "jpg")
    return replace(
        copy,
        place=original.index,
        width_px=width,
        height_px=height,
        title=original.title,
        tags=original.tags,
        suffix=suffix,
        change=change,
    )
