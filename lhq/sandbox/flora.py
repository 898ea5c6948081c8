"""Trees and boulders: small pictures drawn once per scene and placed on the land from far to near.

They are landscape, not objects: clean scenes are full of them, and an object detector must ignore them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lhq.sandbox.noise import Floats, fractal, sample, smoothstep
from lhq.sandbox.sky import Sky
from lhq.sandbox.view import View

Heights = Callable[[Floats, Floats], Floats]

_BRIGHTEST = 1.5  # an unlit colour can be brighter than white
_TALL = 224  # rows of a drawn sprite before it is shrunk to its place

# kind → leaf colours, height in world units (low, high)
_KINDS: dict[str, tuple[tuple[str, ...], tuple[float, float]]] = {
    "conifer": (("2f4a2c", "27402f", "3c5230"), (1.5, 3.6)),
    "snowy": (("3a4a40", "44564c"), (1.5, 3.4)),
    "round": (("4f6a2c", "5c7430", "6d7a34"), (0.9, 2.0)),
    "autumn": (("b8702a", "c98a30", "9c4f22", "c7a23a"), (1.0, 2.2)),
    "acacia": (("4a5426", "5a5a2a"), (1.4, 2.6)),
    "birch": (("7a9038", "8aa048"), (1.4, 2.8)),
    "palm": (("4c6a2c", "587434"), (1.6, 3.2)),
    "boulder": (("77706a", "8a8078", "5f5c5a"), (0.25, 0.9)),
    "red boulder": (("a8623e", "94553a"), (0.25, 1.0)),
    "bush": (("5a6a34", "6a6a3c", "4a5a2e"), (0.25, 0.6)),
}


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn plant or rock; its foot is the middle of the bottom row. `picture` (mode RGBa) holds its unlit colour
    over `_BRIGHTEST`, premultiplied by alpha, so that scaling leaves no fringe; in 8 bits that takes a fifth of the
    time.
    """

    picture: Image.Image

    @classmethod
    def of(cls, rgb: Floats, alpha: Floats) -> Sprite:
        """From unlit colour [h, w, 3] and alpha [h, w], both about 0 … 1."""
        packed = np.empty((*alpha.shape, 4), np.float32)
        packed[..., 3] = np.clip(alpha, 0, 1) * np.float32(255)
        packed[..., :3] = np.clip(rgb, 0, _BRIGHTEST) * np.float32(1 / _BRIGHTEST) * packed[..., 3:]
        return cls._packed((packed + np.float32(0.5)).astype(np.uint8))

    @classmethod
    def _packed(cls, packed: npt.NDArray[np.uint8]) -> Sprite:
        rows, columns, _ = packed.shape
        return cls(Image.frombytes("RGBa", (columns, rows), packed.tobytes()))

    def mirrored(self, strength: float) -> Sprite:
        """Its mirror image in water, with opacity `strength`."""
        return Sprite._packed((np.asarray(self.picture)[::-1] * np.float32(strength)).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Stand:
    """Many sprites of one kind: how many positions to try, at which distances, below which height, how clustered.

    `clump` 0 (anywhere) … 1 (only where the noise is high); `size` multiplies the natural height.
    """

    kind: str
    count: int
    near: float
    far: float
    below: float
    clump: float = 0.5
    size: float = 1.0


@dataclass(frozen=True, slots=True)
class Planted:
    """One sprite's place: its foot at (x, z), `height` over the water, `tall` in world units."""

    z: float
    x: float
    height: float
    tall: float
    sprite: Sprite


@dataclass(frozen=True, slots=True)
class Light:
    """The light on a sprite [3], and the share `air` of the colour `haze` [3] in front of it."""

    colour: Floats
    haze: Floats
    air: float


def plant(
    rng: np.random.Generator, sky: Sky, view: View, heights: Heights, stands: tuple[Stand, ...], is_by_water: bool
) -> list[Planted]:
    """The positions of all sprites, far to near, none of them in water."""
    planted = []
    for number, stand_ in enumerate(stands):
        side = float(np.sign(sky.azimuth)) * (0.4 if sky.behind else 1.0)
        sprites = [draw(rng, stand_.kind, side) for _ in range(3)]
        z = np.exp(rng.uniform(np.log(stand_.near), np.log(stand_.far), stand_.count)).astype(np.float32)
        x = (z * rng.uniform(-1.1, 1.1, stand_.count).astype(np.float32) * np.float32(view.spread)).astype(np.float32)
        h = heights(x[None], z[None])[0]
        clump = sample(x / 14 + number * 7, z / 14) + rng.normal(0, 0.35, stand_.count)
        tall = rng.uniform(*_KINDS[stand_.kind][1], stand_.count) * stand_.size
        which = rng.integers(0, len(sprites), stand_.count)
        fits = (h < stand_.below) & (clump > stand_.clump * 1.6 - 0.8)
        if is_by_water:
            fits &= h > 0.06
        planted += [
            Planted(float(z[i]), float(x[i]), float(h[i]), float(tall[i]), sprites[which[i]])
            for i in np.nonzero(fits)[0]
        ]
    return sorted(planted, key=lambda one: -one.z)


def grow(sky: Sky, view: View, depth: Floats, planted: list[Planted]) -> npt.NDArray[np.bool_]:
    """Draw them onto the sky's image, behind the hills that hide them; the pixels covered [H, W]."""
    covered = np.zeros(depth.shape, bool)
    light = (
        np.array(sky.hour.sunlight, np.float32) * np.float32(0.55 * sky.dim)
        + np.array(sky.hour.skylight, np.float32) * 0.6
    )
    for one in planted:
        z = one.z
        height = min(one.height, view.eye * 0.3 + z * 0.1 + (z / 30) ** 4)
        column, row, tall_px = view.column(one.x, z), view.row(height, z), one.tall * view.focal / z
        at_x, at_y = int(column), int(row) - 1
        if tall_px < 3 or not (0 <= at_x < view.width) or at_y >= view.height + tall_px * 0.3 or at_y < 0:
            continue
        if depth[min(at_y, view.height - 1), at_x] < z * 0.93:
            continue
        air = float(1 - np.exp(-((z / (view.far * view.fog)) ** view.fog_power)))
        drawn = stand(sky.image, one.sprite, (column, row + 1), tall_px, Light(light, sky.haze[at_x], air))
        if drawn:
            covered[drawn[0], drawn[1]] |= drawn[2] > 0.3
    return covered


def _tint(text: str) -> Floats:
    return np.array([int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def draw(rng: np.random.Generator, kind: str, light_from: float) -> Sprite:
    """A single sprite of a kind; `light_from` -1 (left) … 1 (right)."""
    colours = _KINDS[kind][0]
    leaf = _tint(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    rows = _TALL if "boulder" not in kind and kind != "bush" else _TALL // 2
    wide = {"acacia": 1.5, "conifer": 0.52, "snowy": 0.52, "birch": 0.6, "palm": 0.9}.get(kind, 1.1)
    wide = 1.9 if "boulder" in kind or kind == "bush" else wide
    columns = int(rows * wide)
    t = np.linspace(0, 1, rows, dtype=np.float32)[:, None]  # 0 at the top
    x = np.linspace(-wide / 2, wide / 2, columns, dtype=np.float32)[None, :]  # in heights
    a, b = (np.float32(v) for v in rng.uniform(0, 900, 2))
    rough = fractal(x * 9 + a + t * 0, t * 9 + b + x * 0, 4, 0.65)
    if kind in ("conifer", "snowy"):
        crown, light = _conifer(rng, t, x, rough)
    elif kind == "acacia":
        crown, light = _acacia(rng, t, x, rough)
    elif kind == "palm":
        crown, light = _palm(rng, t, x, rough)
    elif "boulder" in kind:
        crown, light = _mound(rng, t, x, rough, 0.10)
    elif kind == "bush":
        crown, light = _mound(rng, t, x, rough, 0.24)
    else:
        crown, light = _round(rng, t, x, rough)
    side = np.clip(0.5 + x * np.float32(1.6 / wide * light_from), 0, 1)
    shade = np.clip(0.45 + 0.4 * side + 0.22 * light + 0.16 * rough, 0.15, 1.5)
    rgb = leaf * shade[..., None]
    if kind == "snowy":
        snow = smoothstep(0.15, 0.7, light + rough * 0.5 + side * 0.25)
        rgb += (np.float32(0.95) - rgb) * snow[..., None]
    alpha = np.clip(crown, 0, 1)
    if "boulder" not in kind and kind != "bush":
        lean = np.float32(rng.uniform(-0.04, 0.04))
        thick = {"acacia": 0.022, "palm": 0.018, "conifer": 0.02, "snowy": 0.02}.get(kind, 0.024)
        start = {"acacia": 0.3, "palm": 0.2}.get(kind, 0.55)
        trunk = smoothstep(thick * 1.4, thick * 0.9, np.abs(x - lean * (1 - t))) * (t > start)
        bark = _tint("d8d4cc" if kind == "birch" else "4a3a2c") * (0.5 + 0.5 * side)[..., None]
        only = trunk * (1 - alpha)
        rgb = rgb * (1 - only[..., None]) + bark * only[..., None]
        alpha = np.maximum(alpha, trunk)
    return Sprite.of(rgb, alpha)


def _conifer(rng: np.random.Generator, t: Floats, x: Floats, rough: Floats) -> tuple[Floats, Floats]:
    tiers = float(rng.uniform(7, 13))
    phase = (t**0.85) * np.float32(tiers) + np.abs(x) * np.float32(2.5)
    tooth = phase - np.floor(phase)
    half = np.float32(rng.uniform(0.17, 0.24)) * t**0.9 * (0.62 + 0.38 * tooth) + 0.004
    crown = smoothstep(0.012, -0.012, np.abs(x) - half * (1 + 0.22 * rough)) * (t < 0.95)
    return crown, (0.5 - tooth).astype(np.float32)


def _acacia(rng: np.random.Generator, t: Floats, x: Floats, rough: Floats) -> tuple[Floats, Floats]:
    flat, lift = np.float32(rng.uniform(0.5, 0.7)), np.float32(rng.uniform(0.1, 0.16))
    top = np.float32(0.18) + lift * 0.4 * np.abs(np.sin(x * 7 + rough * 0.3))
    depth = (t - top) / lift
    crown = smoothstep(0.1, -0.1, np.abs(depth) ** 2 + (x / flat) ** 2 - 1 + rough * 0.22)
    arms = smoothstep(0.016, 0.006, np.abs(np.abs(x) - np.clip(0.62 - t, 0, 1) * 0.75)) * (t > 0.22) * (t < 0.62)
    return np.maximum(crown, arms), np.clip(-depth * 0.6, -1, 1)


def _palm(rng: np.random.Generator, t: Floats, x: Floats, rough: Floats) -> tuple[Floats, Floats]:
    dx, dy = x, t - np.float32(0.2)
    angle, reach = np.arctan2(dy, dx), np.hypot(dx, dy)
    fronds = np.abs(np.sin(angle * 4.5 + reach * 3 + rough * 0.12))
    droop = reach < 0.36 + 0.07 * rough - 0.1 * np.clip(-dy * 4, 0, 1)
    crown = smoothstep(0.25, 0.55, fronds + 0.3 * (reach < 0.05)) * droop * (dy < 0.26)
    return crown.astype(np.float32), np.clip(-dy * 2, -1, 1)


def _round(rng: np.random.Generator, t: Floats, x: Floats, rough: Floats) -> tuple[Floats, Floats]:
    wide, middle, tall = rng.uniform(0.26, 0.42), rng.uniform(0.36, 0.46), rng.uniform(0.34, 0.42)
    d = (x / np.float32(wide)) ** 2 + ((t - np.float32(middle)) / np.float32(tall)) ** 2
    lumps = sample(x * 4.5 + t, t * 4.5 - x) * np.float32(0.28)
    return smoothstep(0.06, -0.06, d - 0.86 + lumps + rough * 0.16), np.clip(0.9 - t * 2 + lumps, -1, 1)


def _mound(rng: np.random.Generator, t: Floats, x: Floats, rough: Floats, ragged: float) -> tuple[Floats, Floats]:
    wide = np.float32(rng.uniform(0.55, 0.85))
    lean = np.float32(rng.uniform(-0.25, 0.25))
    d = ((x - lean * (1 - t)) / wide) ** 2 + ((1 - t) / np.float32(0.92)) ** 2
    lumps = sample(x * 2 + 7, t * 2 + rough * 0.05) * np.float32(0.2)
    facets = sample(x * 3.1 + t * 2, t * 3.1 - x * 1.3)
    return smoothstep(0.03, -0.03, d - 0.82 + lumps + rough * np.float32(ragged)), np.clip(
        0.7 - t + facets * 0.5, -1, 1
    )


def stand(
    image: Floats, sprite: Sprite, foot: tuple[float, float], tall_px: float, light: Light
) -> tuple[slice, slice, Floats] | None:
    """Draw a sprite onto `image`, its foot at (x, y).

    Returns the rows, the columns and the alpha [h, w] of what was covered; None if nothing was.
    """
    rows = max(2, round(tall_px))
    columns = max(2, round(tall_px * sprite.picture.width / sprite.picture.height))
    left, top = round(foot[0] - columns / 2), round(foot[1] - rows)
    x0, x1 = max(0, left), min(image.shape[1], left + columns)
    y0, y1 = max(0, top), min(image.shape[0], top + rows)
    if x0 >= x1 or y0 >= y1:
        return None
    method = Image.Resampling.BOX if rows < sprite.picture.height else Image.Resampling.BILINEAR
    scaled = np.asarray(sprite.picture.resize((columns, rows), method))[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = scaled[..., 3] * np.float32(1 / 255)
    clear = 1 - alpha
    lit, mist = light.colour * np.float32((1 - light.air) * _BRIGHTEST / 255), light.haze * np.float32(light.air)
    part = image[y0:y1, x0:x1]
    for colour in range(3):
        plane = part[..., colour]
        plane *= clear
        plane += scaled[..., colour] * lit[colour] + alpha * mist[colour]
    return slice(y0, y1), slice(x0, x1), alpha
