"""Smooth randomness: one tileable noise tile, sampled anywhere, added up into clouds, hills and grain.

All of it is numpy on one band-limited tile, made once per process from a fixed seed; scenes differ in where, at which
angle and at which scale they read the tile. That costs one gather per octave instead of one transform per scene.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]  # always float32 here; numpy's own promotion is too eager for a checker

_SIDE = 512
_FEATURE = 16.0  # tile pixels a unit of noise space: the tile repeats every 32 units
_BLOCK = 32768  # points looked up at once
_TURN = (0.8, 0.6)  # cosine and sine of the rotation between octaves, so that their grids never line up


@lru_cache(maxsize=4)
def tile(which: int = 0) -> Floats:
    """A tileable [512, 512] noise of mean 0 and deviation 1: 0 has features of about one unit of noise space only,
    1 has all finer ones too."""
    rng = np.random.default_rng([7919, which])
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_SIDE), np.fft.fftfreq(_SIDE))) * _FEATURE
    if which == 0:
        shape = np.exp(-(((frequency - 0.55) / 0.22) ** 2))
    else:
        shape = np.where(frequency > 0.12, 1 / np.maximum(frequency, 0.3), 0)
    spectrum = shape * np.fft.fft2(rng.standard_normal((_SIDE, _SIDE)))
    field = np.fft.ifft2(spectrum).real
    return np.ascontiguousarray(field / field.std(), dtype=np.float32)


@lru_cache(maxsize=1)
def _wrapped() -> Floats:
    """The tile with its first row and column repeated at the end, flat, so that neighbours need no wrapping."""
    return np.ascontiguousarray(np.pad(tile(), ((0, 1), (0, 1)), mode="wrap")).ravel()


def _in_blocks(made: Callable[[Floats, Floats], Floats], x: Floats, y: Floats) -> Floats:
    """`made` of (x, y), block by block: intermediate results stay in the cache, twice as fast as all at once."""
    x, y = np.broadcast_arrays(x, y)
    flat_x, flat_y = x.ravel(), y.ravel()
    found = np.empty(flat_x.size, np.float32)
    for start in range(0, flat_x.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = made(flat_x[block], flat_y[block])
    return found.reshape(x.shape)


def sample(x: Floats, y: Floats) -> Floats:
    """The tile at (x, y) in units of noise space, bilinear, endless; the shape of x and y broadcast."""
    return _in_blocks(_sample, x, y)


def _sample(x: Floats, y: Floats) -> Floats:
    """`take` on one flat index is 4x as fast as four fancy look-ups."""
    flat = _wrapped()
    x, y = x * np.float32(_FEATURE), y * np.float32(_FEATURE)
    x0, y0 = np.floor(x), np.floor(y)
    x -= x0
    y -= y0
    index, column = y0.astype(np.intp), x0.astype(np.intp)
    index &= _SIDE - 1
    column &= _SIDE - 1
    index *= _SIDE + 1
    index += column
    top: Floats = flat.take(index)
    index += 1
    right = flat.take(index)
    right -= top
    right *= x
    top += right
    index += _SIDE
    low = flat.take(index)
    index += 1
    right = flat.take(index)
    right -= low
    right *= x
    low += right
    low -= top
    low *= y
    top += low
    return top


def grain(x: Floats, y: Floats) -> Floats:
    """The finer tile at the nearest point of (x, y): faster than `sample`, for small detail."""
    column = (x * np.float32(_FEATURE)).astype(np.int32)
    row = (y * np.float32(_FEATURE)).astype(np.int32)
    column &= _SIDE - 1
    row &= _SIDE - 1
    row *= _SIDE
    row += column
    found: Floats = tile(1).ravel().take(row)
    return found


def fractal(x: Floats, y: Floats, octaves: int, gain: float = 0.5, lacunarity: float = 2.0) -> Floats:
    """The sum of octaves of the tile, about -2 … 2 (deviation near 1)."""
    sizes = [gain**octave for octave in range(octaves)]

    def made(x: Floats, y: Floats) -> Floats:
        total = np.zeros(x.shape, np.float32)
        for size in sizes:
            total += np.float32(size) * _sample(x, y)
            x, y = _turned(x, y, lacunarity)
        return total

    return _in_blocks(made, x, y) / np.float32(np.sqrt(sum(size * size for size in sizes)))


def ridged(x: Floats, y: Floats, octaves: int, gain: float = 0.5, sharpness: float = 0.9) -> Floats:
    """Octaves of 1 - |noise|, each weighted by the one below: crests like eroded mountains, about 0 … 1.5."""

    def made(x: Floats, y: Floats) -> Floats:
        total, size = np.zeros(x.shape, np.float32), 1.0
        weight: Floats = np.ones(1, np.float32)
        for _ in range(octaves):
            crest = _sample(x, y)
            crest *= crest
            crest += np.float32(0.006)  # a knife edge would fall between two steps of the eye and look like a comb
            np.sqrt(crest, out=crest)
            crest *= np.float32(-sharpness)
            crest += 1
            np.clip(crest, 0.0, 1.0, out=crest)
            crest *= crest
            crest *= weight
            total += np.float32(size) * crest
            weight = np.clip(crest * 1.6, 0.0, 1.0)
            size *= gain
            x, y = _turned(x, y, 2.03)
        return total

    return _in_blocks(made, x, y)


def _turned(x: Floats, y: Floats, scale: float) -> tuple[Floats, Floats]:
    c, s = np.float32(_TURN[0] * scale), np.float32(_TURN[1] * scale)
    return c * x - s * y + np.float32(3.7), s * x + c * y + np.float32(1.3)


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """0 below `low`, 1 above `high`, smooth between (`low` may be above `high`: then it falls)."""
    t: Floats = np.clip((x - np.float32(low)) / np.float32(high - low), 0.0, 1.0).astype(np.float32)
    t *= t * (3.0 - 2.0 * t)
    return t


def mix(a: Floats, b: Floats, t: Floats) -> Floats:
    """a where t is 0, b where t is 1; `t` [...] against colours [..., 3]. One colour channel at a time, 5x as fast as
    all at once."""
    mixed = np.empty(np.broadcast_shapes(a.shape, b.shape, (*t.shape, 3)), np.float32)
    for colour in range(3):
        part = b[..., colour] - a[..., colour]
        mixed[..., colour] = part * t + a[..., colour]
    return mixed
