"""Still and moving water: the mirror of what stands above it, ripples, the sun's path.

Painted last, over the wet pixels, from the picture so far (trees included).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lhq.sandbox.noise import Floats, fractal, mix, smoothstep
from lhq.sandbox.sky import Colour, Sky
from lhq.sandbox.view import View

_BLOCK = 32768  # pixels painted at once, so that they stay in the cache


@dataclass(frozen=True, slots=True)
class Water:
    """Its colour, how `calm` it is, 0 … 1, and by how much the ripples' noise is moved in x and z."""

    colour: Colour
    calm: float
    shift: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the picture's rows from `first` down show [h, W]: where it lies in the world, its share of air."""

    first: int
    x: Floats
    z: Floats
    air: Floats


def pour(sky: Sky, view: View, wet: npt.NDArray[np.bool_], seen: Seen, water: Water) -> None:
    """Water onto the sky's image where `wet` [h, W] says so, of the rows that are `seen`.

    It mirrors what lies above, broken by ripples; darker and clearer underfoot, glittering below the sun.
    """
    flat, first = np.flatnonzero(wet), seen.first
    x, z, air = seen.x.ravel(), seen.z.ravel(), seen.air.ravel()
    pixels = sky.image.reshape(-1, 3)
    for start in range(0, flat.size, _BLOCK):  # what is mirrored lies above the horizon: no block changes it
        block = flat[start : start + _BLOCK]
        near = _Near(block, x.take(block), z.take(block), air.take(block), first)
        pixels[block + first * view.width] = _poured(sky, view, pixels, near, water)


@dataclass(frozen=True, slots=True)
class _Near:
    """Some wet pixels [N]: their running number below row `first`, where they lie in the world, their share of air."""

    flat: npt.NDArray[np.intp]
    x: Floats
    z: Floats
    air: Floats
    first: int


def _poured(sky: Sky, view: View, pixels: Floats, near: _Near, water: Water) -> Floats:
    """The water's colours [N, 3]."""
    calm, shift = water.calm, water.shift
    rows, columns = np.divmod(near.flat.astype(np.int32), np.int32(view.width))
    y = (rows + near.first).astype(np.float32)
    scale = np.float32(1.6)
    ripple = fractal((near.x + np.float32(shift[0])) * scale * 0.6, (near.z + np.float32(shift[1])) * scale, 3, 0.6)
    below = np.clip((y - np.float32(view.horizon)) / np.float32(max(view.height - view.horizon, 1)), 0, 1)
    push = ripple * (np.float32(view.height * 0.045 * (1 - calm)) * (0.15 + below) + np.float32(0.6))
    mirror = np.float32(2 * view.horizon - 1) - y + push * np.float32(1.6)
    mirror = np.clip(mirror, 0, max(view.horizon - 1, 0)).astype(np.int32)
    side = np.clip(columns.astype(np.float32) + push * np.float32(0.5), 0, view.width - 1).astype(np.int32)
    mirror *= view.width
    mirror += side
    seen = pixels.take(mirror, axis=0)
    seen *= np.float32(0.95)
    deep = np.array(water.colour, np.float32) * (np.array(sky.hour.skylight, np.float32) * 0.8 + 0.25)
    fresnel = np.clip(0.88 - (0.55 - 0.25 * calm) * below + 0.10 * ripple * (1 - calm), 0.05, 0.97).astype(np.float32)
    result = mix(deep, seen, fresnel)
    if sky.height < 0.95 and sky.hour.name not in ("overcast", "storm"):
        wide = np.float32(view.width * (0.05 + 0.09 * (1 - calm)))
        away = (columns.astype(np.float32) - np.float32(sky.sun_xy[0])) / wide
        path = np.exp(-((away / (0.5 + below)) ** 2)).astype(np.float32)
        sparkle = smoothstep(0.25, 1.6, ripple + 0.35) * path * np.float32(0.75 if sky.behind else 0.4)
        for part in range(3):
            result[:, part] += sparkle * np.float32(sky.hour.glow[part])
    return mix(result, sky.haze.take(columns, axis=0), smoothstep(0.55, 1.0, near.air) * np.float32(0.6))
