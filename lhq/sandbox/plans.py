"""The plan of a landscape: viewpoint, terrain, materials and possible hours.

Also what plans are built from: ranges, plains, colours. World units are about ten metres: mountains are 25-60 high
and 100-300 away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lhq.sandbox.flora import Stand
from lhq.sandbox.noise import Floats, fractal, ridged, smoothstep
from lhq.sandbox.sky import Colour
from lhq.sandbox.terrain import Ground, Heights

DAY = ("noon", "clear", "morning", "golden", "haze")
ALL = (*DAY, "sunset", "crimson", "rose", "dusk", "blue hour", "overcast", "storm")
WARM = ("golden", "sunset", "crimson", "rose", "morning", "dusk")


@dataclass(frozen=True, slots=True)
class Plan:
    """One landscape before it is painted; lengths in world units, `horizon` as a share of the picture's height."""

    tags: tuple[str, ...]
    heights: Heights
    ground: Ground
    horizon: float = 0.5
    eye: float = 1.6
    far: float = 420.0
    spread: float = 0.75
    water: Colour | None = None
    calm: float = 0.7
    fog: float = 0.6
    roughness: float = 0.16
    hours: tuple[str, ...] = ALL
    cover: tuple[float, float] = (0.1, 0.65)
    aurora: bool = False
    stands: tuple[Stand, ...] = ()


Kind = Callable[[np.random.Generator], Plan]


def tint(text: str) -> Floats:
    return np.array([int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def pick(rng: np.random.Generator, *texts: str) -> Floats:
    """One of the colours, slightly varied."""
    return tint(texts[int(rng.integers(len(texts)))]) * rng.uniform(0.9, 1.1, 3).astype(np.float32)


def somewhere(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    x, y = rng.uniform(0, 3000, 2)
    return np.float32(x), np.float32(y)


def patchy(base: Floats, wild: Floats, amount: float = 0.16) -> Floats:
    """A flat colour with patches in it."""
    change = 1 + np.float32(amount) * wild
    return np.stack([change * part for part in base], axis=-1)


def mountains(rng: np.random.Generator, height: float, near: float, full: float, wide: float = 150.0) -> Heights:
    """A range that rises between `near` and `full`, with a valley in the middle of some."""
    ax, az = somewhere(rng)
    scale = np.float32(1 / (wide * rng.uniform(0.8, 1.4)))
    sharp = float(rng.uniform(0.6, 0.85))
    valley, middle = float(rng.uniform(0, 0.7)), float(rng.uniform(-0.4, 0.4))

    def heights(x: Floats, z: Floats) -> Floats:
        h = ridged(x * scale + ax, z * scale + az, 6, 0.42, sharp) * np.float32(height * 1.7)
        open_ = 1 - np.float32(valley) * np.exp(-(((x / z - np.float32(middle)) / np.float32(0.28)) ** 2))
        return h * open_ * smoothstep(near, full, z)

    return heights


def plain(rng: np.random.Generator, bumps: float, level: float, wide: float = 28.0) -> Heights:
    ax, az = somewhere(rng)
    scale = np.float32(1 / wide)

    def heights(x: Floats, z: Floats) -> Floats:
        return fractal(x * scale + ax, z * scale + az, 5, 0.42) * np.float32(bumps) + np.float32(level)

    return heights


def together(*parts: Heights) -> Heights:
    return lambda x, z: sum((part(x, z) for part in parts[1:]), parts[0](x, z))
