"""Objects that are not landscape: people, cars, houses, animals, boats, balloons, drawn with light and shade.

Each is drawn at twice its final size or more, with random posture, build and colours. A detector must find them and
the object filter must drop their scenes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lhq.sandbox.flora import Sprite
from lhq.sandbox.noise import Floats, fractal

Colour = tuple[int, int, int]
Point = tuple[float, float]

_CLOTHES = ("c03028", "2a58b0", "e0b020", "308a50", "d86020", "f0f0f0", "303038", "8a3a8a", "20a0b0", "e07098")
_CARS = ("b02020", "2050a0", "e8e8ea", "303236", "c8a020", "2a7a4a", "8a9098", "d86a20", "60a8c8")
_WALLS = ("f0ece0", "b8483a", "e0b860", "8a5a3a", "d8d0c0", "6a8aa8", "c8c8c8", "a83028")
_ROOFS = ("7a3428", "4a4a50", "8a4a30", "5a3a30", "3a4a5a")
_HIDES = ("6a4228", "3a2c24", "e8e0d4", "a8703c", "202024", "c8b090")
_SAILS = ("f8f8f4", "f0e8d0", "d83c30", "3068b0", "f0c030")


def _rgb(text: str) -> Colour:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def _any(rng: np.random.Generator, colours: tuple[str, ...]) -> Colour:
    return _rgb(colours[int(rng.integers(len(colours)))])


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, round(part * factor))) for part in colour)
    return red, green, blue


@dataclass(slots=True)
class _Pen:
    """Draws in units of the drawing's height: (0, 0) is the top left, x grows to `wide`, y to 1."""

    draw: ImageDraw.ImageDraw
    scale: float

    def polygon(self, points: list[Point], fill: Colour) -> None:
        self.draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=(*fill, 255))

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        s = self.scale
        self.draw.ellipse([(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s], fill=(*fill, 255))

    def limb(self, points: list[Point], thick: float, fill: Colour) -> None:
        s = self.scale
        self.draw.line(
            [(x * s, y * s) for x, y in points], fill=(*fill, 255), width=max(1, round(thick * s)), joint="curve"
        )
        for x, y in points:
            self.oval(x, y, thick / 2, thick / 2, fill)


def _person(pen: _Pen, rng: np.random.Generator) -> None:
    skin = _any(rng, ("e0b090", "c88c64", "8a5a3c", "5c3a28", "f0c8a8"))
    top, legs, hair = (
        _any(rng, _CLOTHES),
        _any(rng, (*_CLOTHES, "38404c", "4a4038")),
        _any(rng, ("201810", "6a4020", "c8a050", "484848")),
    )
    middle, stride = 0.25, float(rng.uniform(-0.11, 0.11))
    knee = 0.75 + abs(stride) * 0.1
    for side, factor in ((-1, 0.78), (1, 1.0)):
        foot = middle + side * (0.04 + stride)
        pen.limb(
            [(middle + side * 0.035, 0.52), (middle + side * (0.045 + stride * 0.4), knee), (foot, 0.965)],
            0.072,
            _shade(legs, factor),
        )
        pen.oval(foot + 0.02 * math.copysign(1, stride), 0.975, 0.042, 0.022, (40, 34, 30))
    if rng.random() < 0.4:
        pen.oval(middle - 0.085 * math.copysign(1, stride), 0.34, 0.07, 0.12, _shade(_any(rng, _CLOTHES), 0.9))
    raised = rng.random() < 0.3
    for side, factor in ((-1, 0.75), (1, 0.95)):
        swing = float(rng.uniform(-0.05, 0.1))
        hand = (
            (middle + side * (0.14 + swing), 0.08 + float(rng.uniform(0, 0.1)))
            if raised and side > 0
            else (middle + side * (0.09 + swing), 0.53)
        )
        elbow = (middle + side * 0.135, 0.22 if hand[1] < 0.3 else 0.385)
        pen.limb([(middle + side * 0.085, 0.235), elbow, hand], 0.052, _shade(top, factor))
        pen.oval(*hand, 0.026, 0.028, skin)
    wide = float(rng.uniform(0.085, 0.105))
    pen.polygon(
        [(middle - wide, 0.205), (middle + wide, 0.205), (middle + wide * 0.85, 0.56), (middle - wide * 0.85, 0.56)],
        top,
    )
    if rng.random() < 0.3:
        pen.polygon([(middle - 0.09, 0.5), (middle + 0.09, 0.5), (middle + 0.15, 0.76), (middle - 0.15, 0.76)], legs)
    pen.limb([(middle, 0.16), (middle, 0.22)], 0.045, _shade(skin, 0.85))
    pen.oval(middle, 0.095, 0.058, 0.075, skin)
    if rng.random() < 0.6:
        pen.oval(middle, 0.07, 0.062, 0.06, hair)
        if rng.random() < 0.6:
            pen.oval(middle + 0.02 * math.copysign(1, stride), 0.105, 0.045, 0.055, skin)
    else:
        hat = _any(rng, _CLOTHES)
        pen.oval(middle, 0.055, 0.1, 0.02, hat)
        pen.oval(middle, 0.045, 0.058, 0.045, hat)


def _car(pen: _Pen, rng: np.random.Generator) -> None:
    body, w = _any(rng, _CARS), 2.3
    glass, kind = (70, 90, 110), int(rng.integers(3))
    low, belt, roof = 0.84, 0.46, 0.08
    front, back = (0.62, 0.32) if kind == 0 else (0.45, 0.12) if kind == 1 else (0.75, 0.14)
    pen.oval(w / 2, 0.93, 1.05, 0.06, (28, 28, 28))
    pen.polygon([(0.06, 0.58), (0.14, belt), (w - 0.5, belt), (w - 0.1, 0.56), (w - 0.05, low), (0.06, low)], body)
    pen.polygon([(back, belt), (back + 0.2, roof), (w - front - 0.25, roof), (w - front, belt)], _shade(body, 1.12))
    pen.polygon(
        [
            (back + 0.1, belt - 0.02),
            (back + 0.25, roof + 0.07),
            (w / 2 - 0.06, roof + 0.07),
            (w / 2 - 0.06, belt - 0.02),
        ],
        glass,
    )
    pen.polygon(
        [
            (w / 2 + 0.02, belt - 0.02),
            (w / 2 + 0.02, roof + 0.07),
            (w - front - 0.29, roof + 0.07),
            (w - front - 0.1, belt - 0.02),
        ],
        glass,
    )
    pen.polygon([(0.06, 0.7), (w - 0.06, 0.7), (w - 0.05, low), (0.06, low)], _shade(body, 0.62))
    pen.limb([(w / 2 - 0.02, belt), (w / 2 - 0.02, 0.78)], 0.014, _shade(body, 0.5))
    pen.oval(w - 0.1, 0.6, 0.05, 0.045, (255, 246, 210))
    pen.oval(0.1, 0.6, 0.035, 0.05, (190, 30, 24))
    for x in (0.48, w - 0.48):
        pen.oval(x, 0.8, 0.2, 0.2, (22, 22, 24))
        pen.oval(x, 0.8, 0.105, 0.105, (170, 172, 176))
        pen.oval(x, 0.8, 0.04, 0.04, (70, 70, 74))


def _house(pen: _Pen, rng: np.random.Generator) -> None:
    wall, roof = _any(rng, _WALLS), _any(rng, _ROOFS)
    split, w = float(rng.uniform(0.45, 0.65)), 1.5
    eaves = float(rng.uniform(0.4, 0.5))
    if rng.random() < 0.6:
        pen.polygon([(w * 0.75, 0.02), (w * 0.83, 0.02), (w * 0.83, 0.3), (w * 0.75, 0.3)], (120, 70, 60))
    pen.polygon([(0.08, eaves), (split, eaves), (split, 1), (0.08, 1)], wall)
    pen.polygon([(0.08, eaves), ((0.08 + split) / 2, 0.1), (split, eaves)], wall)
    pen.polygon([(split, eaves), (w - 0.06, eaves), (w - 0.06, 0.97), (split, 1)], _shade(wall, 0.7))
    top = (0.08 + split) / 2
    pen.polygon([(top, 0.07), (w - 0.25, 0.09), (w, eaves + 0.03), (split + 0.03, eaves + 0.04)], roof)
    pen.limb([(top, 0.08), (0.02, eaves + 0.05)], 0.045, _shade(roof, 0.8))
    pane = (255, 224, 150) if rng.random() < 0.3 else (70, 92, 116)
    for x in np.linspace(split + 0.16, w - 0.24, int(rng.integers(2, 4))):
        pen.polygon([(x - 0.07, 0.58), (x + 0.07, 0.58), (x + 0.07, 0.78), (x - 0.07, 0.78)], (236, 232, 222))
        pen.polygon([(x - 0.05, 0.6), (x + 0.05, 0.6), (x + 0.05, 0.76), (x - 0.05, 0.76)], pane)
    pen.polygon([(top - 0.08, 0.66), (top + 0.08, 0.66), (top + 0.08, 1), (top - 0.08, 1)], _shade(roof, 1.1))
    pen.polygon([(top - 0.06, 0.36), (top + 0.06, 0.36), (top + 0.06, 0.52), (top - 0.06, 0.52)], pane)


def _animal(pen: _Pen, rng: np.random.Generator) -> None:
    hide = _any(rng, _HIDES)
    long_neck = rng.random() < 0.55
    back, belly = (0.36, 0.62) if long_neck else (0.28, 0.66)
    step = float(rng.uniform(-0.07, 0.07))
    for x, factor, turn in ((0.38, 0.62, 1), (0.93, 0.62, -1), (0.31, 0.9, -1), (0.87, 0.9, 1)):
        pen.limb(
            [(x, belly - 0.06), (x + step * turn * 0.5, 0.78), (x + step * turn, 0.97)], 0.075, _shade(hide, factor)
        )
    pen.oval(0.63, (back + belly) / 2, 0.4, (belly - back) / 2 + 0.03, hide)
    pen.oval(0.88, (back + belly) / 2 - 0.02, 0.17, (belly - back) / 2 + 0.03, _shade(hide, 1.05))
    head = (1.2, 0.12 if long_neck else 0.3) if rng.random() < 0.7 else (1.17, 0.72)
    pen.limb([(0.93, back + 0.08), (1.07, (back + head[1]) / 2 + 0.06), head], 0.15 if long_neck else 0.17, hide)
    pen.oval(head[0] + 0.05, head[1] + 0.025, 0.1, 0.06, _shade(hide, 0.92))
    pen.limb([(head[0] - 0.02, head[1] - 0.03), (head[0] - 0.03, head[1] - 0.09)], 0.03, _shade(hide, 0.7))
    pen.limb([(0.24, back + 0.07), (0.15, 0.5), (0.17, 0.68)], 0.035, _shade(hide, 0.55))
    if not long_neck or rng.random() < 0.3:
        for _ in range(int(rng.integers(3, 7))):
            spot = _shade(hide, 0.35) if sum(hide) > 360 else (232, 226, 216)
            pen.oval(
                float(rng.uniform(0.38, 0.86)),
                float(rng.uniform(back + 0.08, belly - 0.08)),
                float(rng.uniform(0.03, 0.08)),
                0.045,
                spot,
            )
    elif rng.random() < 0.6:
        pen.limb([(0.95, back), (1.12, head[1] + 0.03)], 0.05, _shade(hide, 0.45))


def _boat(pen: _Pen, rng: np.random.Generator) -> None:
    hull, w = _any(rng, (*_CARS, "f4f4f0", "6a4228")), 0.95
    if rng.random() < 0.7:
        sail, mast = _any(rng, _SAILS), float(rng.uniform(0.4, 0.52))
        pen.limb([(mast, 0.02), (mast, 0.86)], 0.018, (110, 84, 60))
        pen.polygon([(mast + 0.015, 0.04), (mast + 0.4, 0.76), (mast + 0.015, 0.78)], sail)
        pen.polygon([(mast - 0.02, 0.14), (mast - 0.02, 0.76), (mast - 0.33, 0.77)], _shade(_any(rng, _SAILS), 0.85))
        top = 0.84
    else:
        top = 0.7
        pen.polygon([(0.3, 0.5), (0.66, 0.5), (0.72, top + 0.02), (0.24, top + 0.02)], (240, 238, 230))
        for x in (0.36, 0.48, 0.6):
            pen.polygon([(x - 0.04, 0.54), (x + 0.04, 0.54), (x + 0.04, 0.63), (x - 0.04, 0.63)], (60, 84, 108))
        pen.limb([(0.5, 0.2), (0.5, 0.5)], 0.02, (80, 80, 84))
    pen.polygon([(0.03, top), (w - 0.02, top - 0.02), (w - 0.16, 0.985), (0.15, 0.985)], hull)
    pen.polygon(
        [(0.1, (top + 0.985) / 2 + 0.02), (w - 0.1, (top + 0.985) / 2), (w - 0.16, 0.985), (0.15, 0.985)],
        _shade(hull, 0.6),
    )
    pen.limb([(0.03, top), (w - 0.02, top - 0.02)], 0.02, (244, 240, 230))


def _balloon(pen: _Pen, rng: np.random.Generator) -> None:
    first, second, r, middle = _any(rng, _CLOTHES), _any(rng, _CLOTHES), 0.36, 0.38
    pen.polygon([(middle - 0.3, 0.52), (middle + 0.3, 0.52), (middle + 0.075, 0.83), (middle - 0.075, 0.83)], first)
    pen.oval(middle, 0.37, r, 0.36, first)
    bands = int(rng.integers(3, 6))
    for n in range(bands):
        a = -1 + 2 * (n + 0.25) / bands
        b = a + 1 / bands
        points = [
            (middle + a * r * math.sqrt(max(0, 1 - ((y - 0.37) / 0.36) ** 2)), y) for y in np.linspace(0.02, 0.6, 14)
        ]
        points += [(middle + a * 0.075, 0.83), (middle + b * 0.075, 0.83)]
        points += [
            (middle + b * r * math.sqrt(max(0, 1 - ((y - 0.37) / 0.36) ** 2)), y) for y in np.linspace(0.6, 0.02, 14)
        ]
        pen.polygon(points, second)
    for side in (-1, 1):
        pen.limb([(middle + side * 0.07, 0.83), (middle + side * 0.05, 0.91)], 0.008, (60, 50, 40))
    pen.polygon(
        [(middle - 0.06, 0.9), (middle + 0.06, 0.9), (middle + 0.05, 0.99), (middle - 0.05, 0.99)], (120, 82, 46)
    )


@dataclass(frozen=True, slots=True)
class Object:
    """How one class is drawn and where it stands: width in heights, the share of its box that it fills."""

    draw: Callable[[_Pen, np.random.Generator], None]
    wide: float
    fill: float
    where: str  # "land", "water", "air"


OBJECTS = {
    "person": Object(_person, 0.5, 0.5, "land"),
    "car": Object(_car, 2.3, 0.66, "land"),
    "house": Object(_house, 1.5, 0.72, "land"),
    "animal": Object(_animal, 1.35, 0.4, "land"),
    "boat": Object(_boat, 0.95, 0.38, "water"),
    "balloon": Object(_balloon, 0.76, 0.62, "air"),
}


def draw(rng: np.random.Generator, label: str, tall_px: int, light_from: float) -> Sprite:
    """One object, `tall_px` rows high, lit from -1 (left) … 1 (right), mirrored half the time."""
    kind = OBJECTS[label]
    big = max(120, tall_px * 2)
    image = Image.new("RGBA", (math.ceil(big * kind.wide), big))
    kind.draw(_Pen(ImageDraw.Draw(image), big), rng)
    size = (max(2, round(tall_px * kind.wide)), max(2, tall_px))
    small = np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / 255  # colours weighted by alpha
    if rng.random() < 0.5:
        small = small[:, ::-1]
    rgb, alpha = small[..., :3], small[..., 3]
    return Sprite.of(_rounded(rng, rgb, alpha, light_from, tall_px), alpha)


def _rounded(rng: np.random.Generator, rgb: Floats, alpha: Floats, light_from: float, tall_px: int) -> Floats:
    """Flat colours → lit from one side, softer below, with a slight texture."""
    rows, columns = alpha.shape
    blurred = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(max(1, tall_px // 40)))
    soft = np.asarray(blurred, np.float32) / 255
    edge = np.gradient(soft, axis=1) * np.float32(tall_px / 60)
    x, y = np.meshgrid(np.linspace(0, 1, columns, dtype=np.float32), np.linspace(0, 1, rows, dtype=np.float32))
    rough = fractal(x * 7 * columns / rows + np.float32(rng.uniform(0, 99)), y * 7, 3)
    light = (
        0.95
        - np.clip(edge * light_from, -0.3, 0.3)
        + (x - 0.5) * np.float32(0.35 * light_from)
        - y * 0.14
        + rough * 0.05
    )
    lit: Floats = (rgb * light[..., None]).astype(np.float32)
    return lit
