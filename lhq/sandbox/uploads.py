"""Scene → the stored bytes of its upload: encoded, changed, rotated, damaged."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from lhq.sandbox import painting
from lhq.sandbox.scenes import SIZES, Scene
from lhq.sandbox.staging import Thing


@dataclass(frozen=True, slots=True)
class Painting:
    image: Image.Image
    things: tuple[Thing, ...]


def paint(scene: Scene) -> Painting:
    """The scene's picture before it is encoded, upright, with the objects in it."""
    width, height = scene.width_px, scene.height_px
    if scene.kind == "near-duplicate":
        base = np.random.default_rng([scene.seed, scene.place, 12])
        width, height = SIZES[int(base.integers(len(SIZES)))]
    ground = painting.lay(scene.seed, scene.place, width, height, scene.kind == "objects")
    things: tuple[Thing, ...] = ()
    if scene.kind == "objects":
        things = painting.populate(ground, np.random.default_rng([scene.seed, scene.index, 18]))
    return Painting(_changed(scene, painting.develop(ground.rng, ground.land.image)), things)


def _changed(scene: Scene, image: Image.Image) -> Image.Image:
    """Apply a near duplicate's change; leave everything else as it is."""
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
