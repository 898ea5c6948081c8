"""Place → picture: sky, land, trees and water in order, then objects, then camera noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lhq.sandbox import places, sky, staging, terrain
from lhq.sandbox.noise import Floats
from lhq.sandbox.view import View

_BAND = 32  # rows processed at once, so that they stay in the cache


@dataclass(slots=True)
class Ground:
    """A landscape without objects; `rng` continues after the landscape's own draws."""

    land: terrain.Land
    above: sky.Sky
    horizon: float
    solid: bool
    rng: np.random.Generator


def lay(seed: int, place: int, width: int, height: int, bright: bool) -> Ground:
    """The landscape of a place in float colours; the same place at another size is the same landscape."""
    plan, hour = places.plan(seed, place, bright)
    rng = np.random.default_rng([seed, place, 15])
    horizon = height * plan.horizon
    weather = sky.Weather(hour, rng.uniform(*plan.cover), aurora=plan.aurora and hour.name == "night")
    above = sky.paint(rng, width, height, horizon, weather)
    view = View(width, height, horizon, plan.eye, plan.far, plan.spread, plan.fog, roughness=plan.roughness)
    bare = terrain.Terrain(plan.heights, plan.ground, plan.water, plan.calm, plan.stands)
    land = terrain.paint(rng, above, view, bare)
    return Ground(land, above, horizon, "above the clouds" not in plan.tags, rng)


def populate(ground: Ground, rng: np.random.Generator) -> tuple[staging.Thing, ...]:
    """Paint objects onto the landscape, in place; returns what and where they are."""
    return staging.stage(rng, ground.land, ground.above, ground.horizon, ground.solid)


def develop(rng: np.random.Generator, pixels: Floats) -> Image.Image:
    """Float colours 0 … 1 → an 8-bit picture with a camera's noise; `pixels` is overwritten."""
    height, width, _ = pixels.shape
    square, rows = _film(rng, height, width)
    developed = np.empty(pixels.shape, np.uint8)
    for top in range(0, height, _BAND):
        band = pixels[top : top + _BAND]
        band *= 255
        noise = square.take(rows[top : top + _BAND], axis=0)
        for colour in range(3):
            band[..., colour] += noise
        developed[top : top + _BAND] = np.clip(band, 0, 255, out=band)
    return Image.fromarray(developed)


def _film(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """A camera's noise, which also keeps skies from banding: rows [512, W] of it, and which of them to lay out [H]."""
    square = rng.standard_normal((512, 512), np.float32) * np.float32(1.1)
    rows, columns = rng.integers(0, 512, height), np.arange(width) + int(rng.integers(512))
    return square.take(columns % 512, axis=1), rows
