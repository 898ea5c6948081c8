"""Hour and weather → sky: gradient, glow, sun or moon, clouds in perspective, stars, aurora.

A sky is painted at half size (it is soft) and enlarged; sun, moon and stars are added at full size. Colours
are display values 0 … 1 until the last tone curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from lhq.sandbox.noise import Floats, fractal, mix, sample, smoothstep

Colour = tuple[float, float, float]


_BELOW = 0.12  # of the picture's height: so far below the horizon a sky is painted, as the far land may leave it bare


@dataclass(frozen=True, slots=True)
class Hour:
    """The light of one time of day: sky from top to horizon, sun, clouds, what it does to the land."""

    name: str
    zenith: Colour
    middle: Colour
    horizon: Colour
    glow: Colour
    cloud_lit: Colour
    cloud_shade: Colour
    sunlight: Colour
    skylight: Colour
    sun_height: tuple[float, float]  # of the picture's part above the horizon
    tags: tuple[str, ...] = ()


def _rgb(text: str) -> Colour:
    return int(text[0:2], 16) / 255, int(text[2:4], 16) / 255, int(text[4:6], 16) / 255


def _hour(name: str, colours: str, sun_height: tuple[float, float], *tags: str) -> Hour:
    zenith, middle, horizon, glow, lit, shade, sunlight, skylight = [_rgb(part) for part in colours.split()]
    return Hour(name, zenith, middle, horizon, glow, lit, shade, sunlight, skylight, sun_height, tags)


# name, then: zenith middle horizon glow cloud-lit cloud-shade sunlight skylight
HOURS = {
    hour.name: hour
    for hour in [
        _hour("noon", "1f5fae 5b9bd8 c3dcec fff6dc ffffff 93a8bf fff3dd 7f9cc4", (0.75, 1.3), "blue", "day"),
        _hour("clear", "14509c 4a90d6 b4d8f0 fffbe8 ffffff a3b6cc fff6e6 7c9ccb", (0.8, 1.4), "blue", "day"),
        _hour("morning", "4d86bd 9cc3df f3e3c8 fff0c4 fff6e6 a4b2c4 ffe3b0 8aa4c4", (0.3, 0.7), "sunrise", "morning"),
        _hour("golden", "3d6fa6 a9bfca fbd79a ffdf94 ffe9c0 a08f92 ffc670 7f8fb0", (0.15, 0.4), "sunset", "golden"),
        _hour("sunset", "2c3f74 a3668a fb9a5c ffc060 ff9e6a 5b4768 ff9850 65618f", (0.03, 0.16), "sunset", "evening"),
        _hour("crimson", "231f4d 8c3c6a f56a48 ff9a4a ff6e58 3f2850 ff7a48 56487f", (0.02, 0.1), "sunset", "red"),
        _hour("rose", "5a6fae c79fc4 fcc9b8 ffe0c0 ffd0cc 8d83ad ffc4ac 8f90bd", (0.05, 0.25), "sunrise", "pink"),
        _hour("dusk", "131d45 3c4a80 c98a80 e8a080 8d7596 2b3159 a8869a 4a5788", (-0.1, -0.02), "dusk", "evening"),
        _hour("blue hour", "0a1838 1f3f74 6f8fb8 9ab4d0 4a6490 16294e 6c86b4 3d5a90", (-0.2, -0.1), "dusk", "blue"),
        _hour("night", "03060f 0a1530 1d3050 b8c8e0 253450 0a1224 8098c4 22335c", (0.4, 0.9), "night", "stars"),
        _hour("overcast", "8c99a6 a8b3bd c9d0d4 e6e8ea d5dade 8893a0 cfd4d8 97a4b2", (0.5, 1.0), "clouds", "mist"),
        _hour("storm", "343f4d 5a6674 a6b0b0 d8d8c8 a2acb2 323a46 d0cdbc 7d8a98", (0.3, 0.8), "storm", "clouds"),
        _hour("haze", "87aac4 bccfd6 ecdfc6 fff2d4 fbf1de b4b6ba ffe7c0 9fb1c0", (0.35, 0.8), "haze", "mist"),
    ]
}


@dataclass(frozen=True, slots=True)
class Weather:
    """The hour, the clouds from `cover` 0 (clear) to 1 (overcast), and whether there is an aurora."""

    hour: Hour
    cover: float
    aurora: bool = False

    @property
    def is_night(self) -> bool:
        return self.hour.name in ("night", "blue hour")


@dataclass(frozen=True, slots=True)
class _Rows:
    """The small sky's coordinates: `rise` [h, 1] 1 at the top, 0 at the horizon; `side` [1, w] 0 in the middle.

    `distance` [h, w] is measured from the sun or moon, which stands at `azimuth`.
    """

    rise: Floats
    side: Floats
    distance: Floats
    azimuth: float


@dataclass(frozen=True, slots=True)
class Sky:
    """One painted sky and the light it throws.

    `image` is [H, W, 3] float32 for the whole picture (below the horizon it continues as haze);
    `sun_xy` is the sun's position in pixels; `azimuth` is its side (-1 left … 1 right), `height` its
    height over the horizon as a share of the sky, `behind` says that it lights the land from the back; `haze`
    [W, 3] is the colour of the air over the horizon, column by column, so that glow reaches the land.
    """

    image: Floats
    hour: Hour
    sun_xy: tuple[float, float]
    azimuth: float
    height: float
    behind: bool
    haze: Floats

    @property
    def dim(self) -> float:
        """How much direct light reaches the land: 1 by day, little by night."""
        return {"night": 0.28, "blue hour": 0.28, "dusk": 0.5}.get(self.hour.name, 1.0)


def paint(rng: np.random.Generator, width: int, height: int, horizon: float, weather: Weather) -> Sky:
    """A sky over the row `horizon` (pixels from the top)."""
    hour, half_w = weather.hour, width // 2
    y0 = max(8.0, horizon / 2)
    half_h = min(height // 2, int(y0 + _BELOW * height / 2))
    rise = np.clip((y0 - np.arange(half_h, dtype=np.float32)) / np.float32(y0), -1.0, 1.0)[:, None]  # 1 at the top
    side = np.linspace(-1, 1, half_w, dtype=np.float32)[None, :] * np.float32(width / max(height, 1) / 1.2)
    azimuth = float(rng.uniform(-0.75, 0.75))
    sun_height = float(rng.uniform(*hour.sun_height))
    behind = sun_height < 0.45
    image = _gradient(rise, hour, half_w)
    distance = np.hypot(side - np.float32(azimuth), (rise - np.float32(sun_height)) * np.float32(0.9))
    strength = 0.12 if weather.is_night else 0.75 if behind else 0.3
    glow = np.float32(strength) * np.exp(-distance * np.float32(2.6 if behind else 1.8))
    image = mix(image, np.array(hour.glow, np.float32), np.clip(glow, 0, 1))
    row = int(np.clip(y0 * 0.92, 0, half_h - 1))
    haze = np.repeat(image[row], 2, axis=0)
    haze = np.concatenate([haze, haze[-1:]])[:width]
    if weather.aurora:
        image += _aurora(rng, rise, side)
    if weather.is_night:
        image = _stars(rng, image, rise)
    if weather.cover > 0.02:
        image = _clouds(rng, image, _Rows(rise, side, distance, azimuth), weather)
    rows = min(height, 2 * half_h) if half_h < height // 2 else height
    full = np.empty((height, width, 3), np.float32)
    for colour in range(3):
        full[:rows, :, colour] = _enlarge(image[..., colour], width, rows)
    full[rows:] = full[rows - 1]
    x = (azimuth / (width / max(height, 1) / 1.2) + 1) / 2 * width
    y = horizon * (1 - sun_height)
    if -0.02 <= sun_height < 0.95 and hour.name not in ("overcast", "storm"):
        _disc(rng, full, (x, y), weather)
    return Sky(full, hour, (x, y), azimuth, sun_height, behind, haze)


def _enlarge(plane: Floats, width: int, height: int) -> Floats:
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))


def _gradient(rise: Floats, hour: Hour, width: int) -> Floats:
    up = np.clip(rise, 0, 1)
    low, mid, top = (np.array(c, np.float32) for c in (hour.horizon, hour.middle, hour.zenith))
    column = mix(mix(low, mid, smoothstep(0.0, 0.42, up)), top, smoothstep(0.25, 1.05, up))
    return np.repeat(column.astype(np.float32), width, axis=1)


def _clouds(rng: np.random.Generator, image: Floats, at: _Rows, weather: Weather) -> Floats:
    """A layer seen from below: rows near the horizon look further along it, so clouds crowd together there."""
    rise, hour = at.rise, weather.hour
    rows = int(np.count_nonzero(rise[:, 0] > 0.0))
    if rows < 4:
        return image
    up = rise[:rows] + np.float32(0.10)
    far = np.float32(1.0) / up
    stretch = float(rng.uniform(0.6, 2.2))
    u = (at.side * far) * np.float32(1.1) + np.float32(rng.uniform(0, 32))
    v = far * np.float32(stretch) + np.float32(rng.uniform(0, 32))
    u, v = np.broadcast_arrays(u, v)
    scale = np.float32(rng.uniform(0.45, 1.1))
    u, v = np.ascontiguousarray(u * scale), np.ascontiguousarray(v * scale)
    wind = np.float32(0.35) * sample(u * np.float32(0.5), v * np.float32(0.5))
    density = fractal(u + wind, v + wind, 6, 0.55)
    toward = np.float32(0.22)
    other = fractal(u + wind + toward * np.float32(at.azimuth), v - toward + wind, 3, 0.55)
    threshold = np.float32(1.35 - 2.5 * weather.cover)
    body = smoothstep(0.0, 0.9, density - threshold)
    body *= smoothstep(0.0, 0.12, rise[:rows]) * np.float32(0.55) + np.float32(0.45)
    light = np.clip(0.55 + 0.33 * (density - other) - 0.22 * (density - threshold), 0, 1)
    light += np.float32(0.5) * np.exp(-at.distance[:rows] * np.float32(3.0)) * (1 - body * np.float32(0.6))
    shade, lit = np.array(hour.cloud_shade, np.float32), np.array(hour.cloud_lit, np.float32)
    colour = mix(shade, lit, np.clip(light, 0, 1))
    haze = smoothstep(0.3, 0.0, rise[:rows]) * np.float32(0.55)
    colour = mix(colour, image[:rows], np.broadcast_to(haze, body.shape))
    image[:rows] = mix(image[:rows], colour, body * np.float32(0.96))
    return image


def _stars(rng: np.random.Generator, image: Floats, rise: Floats) -> Floats:
    width = image.shape[1]
    rows = int(np.count_nonzero(rise[:, 0] > 0.02))
    if rows < 8:
        return image
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(rows, dtype=np.float32))
    angle = float(rng.uniform(-0.9, 0.9))
    across = (x - width * np.float32(rng.uniform(0.3, 0.7))) * np.float32(np.cos(angle))
    across += (y - rows / 2) * np.float32(np.sin(angle))
    dust = fractal(x / np.float32(90), y / np.float32(90), 4)
    band = np.exp(-((across / np.float32(width * 0.13)) ** 2)) * np.clip(0.55 + 0.3 * dust, 0, 1.3)
    image[:rows] += band[..., None] * np.array([0.20, 0.19, 0.26], np.float32) * np.float32(rng.uniform(0.3, 1.1))
    count = int(width * rows / 420)
    at_x, at_y = rng.integers(0, width, count), rng.integers(0, rows, count)
    bright = (rng.random(count) ** 5 * 0.9 + 0.12).astype(np.float32)
    bright *= smoothstep(0.02, 0.2, rise[at_y, 0])
    tint = 1 + (rng.random((count, 1)).astype(np.float32) - 0.5) * np.array([0.3, 0.0, -0.3], np.float32)
    np.add.at(image, (at_y, at_x), bright[:, None] * tint)
    return image


def _aurora(rng: np.random.Generator, rise: Floats, side: Floats) -> Floats:
    height, width = rise.shape[0], side.shape[1]
    light = np.zeros((height, width, 3), np.float32)
    x = side / np.float32(max(abs(side.min()), 1e-3))
    for _ in range(int(rng.integers(2, 4))):
        a, b, c = (np.float32(v) for v in rng.uniform(0, 32, 3))
        foot = np.float32(rng.uniform(0.18, 0.4)) + np.float32(0.16) * sample(x * np.float32(0.6) + a, x * 0 + b)
        rays = np.clip(0.55 + 0.35 * fractal(x * np.float32(9) + c, x * 0 + a, 3), 0.05, 1.4)
        strength = np.clip(0.55 + 0.5 * sample(x * np.float32(1.1) + b, x * 0 + c), 0, 1.2) * rays
        over = rise - foot
        tall = np.float32(rng.uniform(0.2, 0.45)) * (0.6 + 0.5 * rays)
        body = np.where(over > 0, np.exp(-over / tall), np.exp(over / np.float32(0.018))) * strength
        green, purple = np.array([0.16, 0.85, 0.42], np.float32), np.array([0.55, 0.18, 0.75], np.float32)
        light += (
            mix(green, purple, smoothstep(0.1, 0.55, over)) * (body * np.float32(rng.uniform(0.45, 0.8)))[..., None]
        )
    return light


def _disc(rng: np.random.Generator, image: Floats, at: tuple[float, float], weather: Weather) -> None:
    """Sun or moon with its bloom, only on the pixels it reaches."""
    (x, y), night = at, weather.is_night
    radius = image.shape[0] * float(rng.uniform(0.014, 0.03))
    reach = int(radius * 9)
    top, bottom = max(0, int(y) - reach), min(image.shape[0], int(y) + reach)
    left, right = max(0, int(x) - reach), min(image.shape[1], int(x) + reach)
    if top >= bottom or left >= right:
        return
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    columns = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    distance = np.hypot(rows, columns) / np.float32(radius)
    disc = smoothstep(1.08, 0.92, distance)
    bloom = np.exp(-distance * np.float32(0.75)) * np.float32(0.35 if night else 0.8)
    fade = np.float32(max(0.0, 1.0 - max(0.0, weather.cover - 0.35) * 1.8))
    colour = np.array([0.93, 0.94, 0.9] if night else [1.0, 0.97, 0.86], np.float32)
    if night:
        seas = 1 - 0.25 * np.clip(
            sample(columns / np.float32(radius) * 1.3 + rows * 0, rows / np.float32(radius) * 1.3 + columns * 0), 0, 1
        )
        disc = disc * seas
    edge = smoothstep(9.0, 6.0, distance)
    part = image[top:bottom, left:right]
    part += (np.array(weather.hour.glow, np.float32) - part) * np.clip(bloom * edge * fade, 0, 1)[..., None]
    part += (colour - part) * (disc * fade)[..., None]
