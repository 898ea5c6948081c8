"""Objects onto a painted land: where each can stand, how large, its shadow or mirror image, its exact mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lhq.sandbox import objects
from lhq.sandbox.flora import Light, stand
from lhq.sandbox.noise import Floats
from lhq.sandbox.sky import Sky
from lhq.sandbox.terrain import Land

_MIN_PIXELS = 1500
_MAIN_SHARE = 0.018  # of the picture's area that the first object covers at least


@dataclass(frozen=True, slots=True)
class Thing:
    """One object in a painting: its class, its box (left, top, right, bottom; pixels), its mask [H, W] bool."""

    label: str
    box: tuple[int, int, int, int]
    mask: npt.NDArray[np.bool_]


def stage(
    rng: np.random.Generator, land: Land, sky: Sky, horizon: float, solid: bool, most: int = 4
) -> tuple[Thing, ...]:
    """Draw one to `most` objects onto `land.image`, far ones first.

    `solid` says whether the land can be stood on (clouds can't). There is always at least one object.
    """
    height, width, _ = land.image.shape
    labels = _possible(land, horizon, solid)
    wanted = min(most, int(rng.choice([1, 1, 2, 2, 3, 4])))
    favourite = labels[int(rng.integers(len(labels)))]
    feet: list[tuple[float, float, str, int]] = []
    for turn in range(wanted * 12):
        label = favourite if turn == 0 or rng.random() < 0.5 else labels[int(rng.integers(len(labels)))]
        kind = objects.OBJECTS[label]
        size = float(rng.beta(1.1, 1.6))
        share = (_MAIN_SHARE if not feet else _MAIN_SHARE / 4) * 6.0**size
        tall = int(min((share * width * height / (kind.fill * kind.wide)) ** 0.5, height * 0.75))
        foot = _foot(rng, land, label, tall, size, horizon)
        if foot is not None and all(_apart(foot, tall, label, other) for other in feet):
            feet.append((foot[1], foot[0], label, tall))
        if len(feet) == wanted:
            break
    if not feet:
        feet.append((horizon * 0.7, width / 2, "balloon", int((0.03 * width * height / 0.47) ** 0.5)))
    things: list[Thing] = []
    for y, x, label, tall in sorted(feet):
        mask = _put(rng, land, sky, label, tall, (x, y))
        things = [Thing(one.label, one.box, one.mask & ~mask) for one in things]
        things.append(Thing(label, _box(mask), mask))
    return tuple(Thing(one.label, _box(one.mask), one.mask) for one in things if one.mask.sum() >= _MIN_PIXELS)


def _possible(land: Land, horizon: float, solid: bool) -> list[str]:
    height = land.image.shape[0]
    below = land.wet[int(horizon) :]
    wet = float(below.mean()) if below.size else 0.0
    found = [name for name, kind in objects.OBJECTS.items() if kind.where == "land"] if solid and wet < 0.75 else []
    found += ["boat", "boat"] if wet > 0.2 else []
    return found + (["balloon"] if horizon > 0.36 * height or not found else [])


def _foot(
    rng: np.random.Generator, land: Land, label: str, tall: int, size: float, horizon: float
) -> tuple[float, float] | None:
    """A place for the foot where the object belongs: large ones near, that is low in the picture."""
    height, width, _ = land.image.shape
    kind = objects.OBJECTS[label]
    half = tall * kind.wide / 2
    for _ in range(25):
        x = float(rng.uniform(half * 0.9, max(half * 0.9 + 1, width - half * 0.9)))
        if kind.where == "air":
            top = tall * 1.02
            return x, float(rng.uniform(top, max(top + 1, horizon * 0.93)))
        share = float(np.clip(0.10 + 0.75 * size + rng.normal(0, 0.1), 0.06, 0.97))
        y = horizon + (height - horizon) * share
        row, column = min(int(y), height - 1), int(np.clip(x, 0, width - 1))
        if bool(land.wet[row, column]) != (kind.where == "water") or not np.isfinite(land.depth[row, column]):
            continue
        if kind.where == "water":
            sides = (int(np.clip(x - half, 0, width - 1)), int(np.clip(x + half, 0, width - 1)))
            if not all(land.wet[row, side] for side in sides):
                continue
        return x, y
    return None


def _apart(foot: tuple[float, float], tall: int, label: str, other: tuple[float, float, str, int]) -> bool:
    """Whether two drawings barely overlap."""
    half, half_other = tall * objects.OBJECTS[label].wide / 2, other[3] * objects.OBJECTS[other[2]].wide / 2
    across = min(foot[0] + half, other[1] + half_other) - max(foot[0] - half, other[1] - half_other)
    down = min(foot[1], other[0]) - max(foot[1] - tall, other[0] - other[3])
    return across <= 0 or down <= 0 or across * down < 0.2 * min(tall * half, other[3] * half_other) * 2


def _put(
    rng: np.random.Generator, land: Land, sky: Sky, label: str, tall: int, foot: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    image = land.image
    side = float(np.sign(sky.azimuth) or 1.0) * (0.4 if sky.behind else 1.0)
    sprite = objects.draw(rng, label, tall, side)
    day = np.array(sky.hour.sunlight, np.float32) * np.float32(0.6 * sky.dim)
    light = np.maximum(day + np.array(sky.hour.skylight, np.float32) * np.float32(0.6), 0.45)
    air = float(rng.uniform(0.0, 0.12))
    haze = sky.haze[int(np.clip(foot[0], 0, image.shape[1] - 1))]
    where = objects.OBJECTS[label].where
    if where == "land":
        _shadow(image, foot, tall * objects.OBJECTS[label].wide)
    elif where == "water":
        dim = Light(light * np.float32(0.7), haze, 0.2)
        stand(image, sprite.mirrored(0.4), (foot[0], foot[1] + tall * 0.7), tall * 0.7, dim)
    drawn = stand(image, sprite, foot, tall, Light(light, haze, air))
    mask = np.zeros(image.shape[:2], bool)
    if drawn:
        mask[drawn[0], drawn[1]] = drawn[2] > 0.5
    return mask


def _shadow(image: Floats, foot: tuple[float, float], wide: float) -> None:
    """A soft dark ellipse on the ground."""
    half, flat = wide * 0.65, max(3.0, wide * 0.1)
    x0, x1 = int(max(0, foot[0] - half)), int(min(image.shape[1], foot[0] + half))
    y0, y1 = int(max(0, foot[1] - flat)), int(min(image.shape[0], foot[1] + flat))
    if x0 >= x1 or y0 >= y1:
        return
    x = (np.arange(x0, x1, dtype=np.float32) - np.float32(foot[0])) / np.float32(half)
    y = (np.arange(y0, y1, dtype=np.float32) - np.float32(foot[1])) / np.float32(flat)
    dark = np.clip(1 - np.hypot(x[None, :], y[:, None]), 0, 1)
    image[y0:y1, x0:x1] *= 1 - np.float32(0.6) * np.sqrt(dark)[..., None]


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
