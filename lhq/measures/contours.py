"""Mask bits → a smooth outline for an SVG path or for drawing, a few hundred bytes instead of a bitmap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
SIDE = 28


def contours(mask: bytes) -> list[Points]:
    """Closed contours of a packed 28 x 28 mask, each [K, 2] as x, y in 0..1 of its box; holes run the other way."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=SIDE * SIDE).reshape(SIDE, SIDE).astype(bool)
    return [_smooth(loop) / SIDE for loop in _loops(bits)]


def path(mask: bytes, box: tuple[float, float, float, float], width: float, height: float) -> str:
    """The SVG path of a mask in a picture of `width` x `height`; `box` is x0, y0, x1, y1 as shares of them."""
    x0, y0, x1, y1 = box
    parts = []
    for loop in contours(mask):
        x = (x0 + loop[:, 0] * (x1 - x0)) * width
        y = (y0 + loop[:, 1] * (y1 - y0)) * height
        parts.append("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "Z")
    return "".join(parts)


def _loops(bits: npt.NDArray[np.bool_]) -> list[Points]:
    """Edges between set and unset cells, joined head to tail with the set cells on the right."""
    padded = np.pad(bits, 1)
    step: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row, column in np.argwhere(bits).tolist():
        corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        around = [
            padded[row, column + 1],
            padded[row + 1, column + 2],
            padded[row + 2, column + 1],
            padded[row + 1, column],
        ]
        for side in range(4):
            if not around[side]:
                step.setdefault(corners[side], []).append(corners[(side + 1) % 4])
    loops = []
    while step:
        start = here = next(iter(step))
        loop = []
        while True:
            loop.append(here)
            ways = step[here]
            there = ways.pop()
            if not ways:
                del step[here]
            here = there
            if here == start:
                break
        loops.append(np.array(loop, np.float64))
    return loops


def _smooth(loop: Points) -> Points:
    """Remove inner points of straight runs and cut corners twice. Source: Chaikin 1974."""
    before, after = np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0)
    bends = ((loop - before) != (after - loop)).any(axis=1)
    loop = loop[bends]
    for _ in range(2):
        after = np.roll(loop, -1, axis=0)
        loop = np.stack([0.75 * loop + 0.25 * after, 0.25 * loop + 0.75 * after], axis=1).reshape(-1, 2)
    return loop


def hue_of(label: str) -> int:
    """The hue of a class in degrees, the same on every picture."""
    return sum(ord(c) * 47 * (i + 1) for i, c in enumerate(label)) % 360
