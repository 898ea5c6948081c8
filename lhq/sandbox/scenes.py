"""(seed, index) → scene: what each picture of the sandbox is, and its bytes. The table of truth.

About two thirds are clean landscapes; the rest is work for the later stages: objects in the picture, near
duplicates of others, too small, corrupt. `catalogue` says which is which; nothing is drawn until `encode`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from lhq.sandbox import highlands, lowlands, plans, sky, terrain
from lhq.sandbox.staging import Thing, stage
from lhq.sandbox.view import View

VERSION = 1  # of everything painted: a new number whenever the same scene would have other bytes

Kind = Literal["clean", "objects", "near-duplicate", "small", "corrupt"]
_SHARES: dict[Kind, float] = {"objects": 0.16, "near-duplicate": 0.10, "small": 0.06, "corrupt": 0.05}
_SIZES = (
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
_DARK = ("night", "blue hour", "dusk")
_CHANGES = ("re-encoded", "resized", "cropped", "brightened", "as webp", "as png")

# Every kind and how often it is painted.
_PLACES: dict[plans.Kind, float] = {
    highlands.alpine: 10,
    highlands.lake: 12,
    lowlands.sea: 9,
    lowlands.coast: 9,
    lowlands.dunes: 7,
    lowlands.mesa: 6,
    lowlands.fields: 8,
    lowlands.hills: 7,
    highlands.ranges: 8,
    highlands.woods: 7,
    highlands.winter: 6,
    highlands.volcano: 5,
    highlands.polar: 4,
    highlands.northern_lights: 4,
    lowlands.savanna: 5,
    highlands.cloud_sea: 5,
    lowlands.wetland: 6,
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture of the sandbox and the truth about it.

    `place` is the index whose landscape is painted: its own, or for a near duplicate the original's;
    `change` says what was done to the bytes ("" nothing). `orientation` is the EXIF value of the stored file;
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


@dataclass(frozen=True, slots=True)
class Painting:
    image: Image.Image
    things: tuple[Thing, ...]


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
    plan, hour = _plan(seed, index, kind == "objects")
    sizes = _SMALL if kind == "small" else _SIZES
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


def _plan(seed: int, place: int, bright: bool) -> tuple[plans.Plan, sky.Hour]:
    """The landscape of a place and its hour; `bright` leaves the night out (objects must be seen)."""
    rng = np.random.default_rng([seed, place, 14])
    kinds, weights = list(_PLACES), np.array(list(_PLACES.values()))
    shares = weights / weights.sum()
    while True:
        plan = kinds[int(rng.choice(len(kinds), p=shares))](rng)
        hours = [name for name in plan.hours if not bright or name not in _DARK]
        if hours:
            return plan, sky.HOURS[hours[int(rng.integers(len(hours)))]]


def paint(scene: Scene) -> Painting:
    """The scene's picture before it is encoded, upright, with the objects in it."""
    width, height = scene.width_px, scene.height_px
    if scene.kind == "near-duplicate":
        base = np.random.default_rng([scene.seed, scene.place, 12])
        width, height = _SIZES[int(base.integers(len(_SIZES)))]
    plan, hour = _plan(scene.seed, scene.place, scene.kind == "objects")
    rng = np.random.default_rng([scene.seed, scene.place, 15])
    above = sky.paint(
        rng,
        width,
        height,
        height * plan.horizon,
        hour,
        rng.uniform(*plan.cover),
        aurora=plan.aurora and hour.name == "night",
    )
    view = View(
        width, height, height * plan.horizon, plan.eye, plan.far, plan.spread, plan.fog, roughness=plan.roughness
    )
    land = terrain.paint(rng, above, view, plan.heights, plan.ground, plan.water, plan.calm, plan.stands)
    things: tuple[Thing, ...] = ()
    if scene.kind == "objects":
        solid = "above the clouds" not in plan.tags
        things = stage(np.random.default_rng([scene.seed, scene.index, 18]), land, above, height * plan.horizon, solid)
    pixels = land.image
    pixels *= 255
    pixels += _film(rng, height, width)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return Painting(_changed(scene, image), things)


def _film(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """A camera's noise [H, W, 1], which also keeps skies from banding: one square of it, laid out anew each time."""
    square = rng.standard_normal((512, 512), np.float32) * np.float32(1.1)
    rows, columns = rng.integers(0, 512, height), np.arange(width) + int(rng.integers(512))
    return square[rows][:, columns % 512][..., None]


def _changed(scene: Scene, image: Image.Image) -> Image.Image:
    """A near duplicate's own look; everything else as it is."""
    if scene.kind != "near-duplicate":
        return image
    size = scene.width_px, scene.height_px
    if scene.change == "resized":
        return image.resize(size, Image.Resampling.BICUBIC)
    if scene.change == "cropped":
        rng = np.random.default_rng([scene.seed, scene.index, 16])
        left, top, right, bottom = rng.uniform(0.005, 0.03, 4)
        box = (left * image.width, top * image.height, (1 - right) * image.width, (1 - bottom) * image.height)
        return image.resize(size, Image.Resampling.BICUBIC, box=box)
    if scene.change == "brightened":
        return ImageEnhance.Brightness(image).enhance(1.07)
    return image


def encode(scene: Scene) -> bytes:
    """The bytes that the service holds for this scene."""
    if scene.change == "html":
        return b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Service Unavailable</body></html>\n"
    if scene.change == "empty":
        return b""
    image = paint(scene).image
    rng = np.random.default_rng([scene.seed, scene.index, 17])
    buffer = io.BytesIO()
    if scene.suffix == "png":
        image.save(buffer, "png", compress_level=1)
    elif scene.suffix == "webp":
        image.save(buffer, "webp", quality=int(rng.integers(80, 95)), method=0)
    else:
        exif = Image.Exif()
        exif[0x0110], exif[0x0112] = "lhq sandbox", scene.orientation
        turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        stored = image.transpose(turn[scene.orientation]) if scene.orientation in turn else image
        quality = int(rng.integers(55, 75)) if scene.change == "re-encoded" else int(rng.integers(86, 95))
        stored.save(buffer, "jpeg", quality=quality, exif=exif)
    return _damaged(scene, buffer.getvalue(), rng)


def _damaged(scene: Scene, data: bytes, rng: np.random.Generator) -> bytes:
    if scene.change == "truncated":
        return data[: int(len(data) * rng.uniform(0.2, 0.8))]
    if scene.change == "wrong bytes":
        return rng.bytes(64) + data[64:]
    if scene.change == "broken png":
        middle = len(data) // 2
        return data[:middle] + rng.bytes(512) + data[middle + 512 :]
    return data
