"""Grey picture → keypoints: places that a crop, a re-encode or another size of the picture shows as well.

A hash of the whole picture is lost when a fifth of it is cut away. Keypoints are blobs (extrema of differences of
Gaussians over place and scale), found to a fraction of a pixel on a picture of 64 px short side, and each is
hashed by the signs of the low frequencies of its surroundings. Two versions of a scene share several of them, and
one shared keypoint says how the one picture lies in the other.
Source: Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004, sections 3 and 4; the
descriptor is the perceptual hash's (DCT signs) instead of gradients, so that it is found by Hamming radius.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 64
MAX_KEYPOINTS = 16
MAX_ASPECT = 4
"""A longer strip is squeezed to this: only panoramas are, and both versions of one alike."""
NUM_BITS = 42

_NUM_SCALES = 6
_SIGMA_PX = 1.6
_REACH = 4.32  # half side of the hashed square, in sigmas
_LEAST_CONTRAST = 1.0  # of 255
_GRID = 16  # samples a side of the hashed square
_FREQUENCIES = np.array([(u, v) for u in range(8) for v in range(8) if 0 < u + v <= 8]).T
_AROUND = np.mgrid[-1:2, -1:2, -1:2].reshape(3, -1)


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Keypoints of one picture, the strongest first, at most `MAX_KEYPOINTS`.

    `hashes` is uint64 [K] (42 bits); `places` float32 [K, 3]: x, y and half side of the hashed square, in short
    sides of the picture, from its top left corner.
    """

    hashes: np.ndarray
    places: np.ndarray


def small_grey(rgb: np.ndarray) -> Image.Image:
    """An `L` picture of `SIDE_PX` short side from uint8 [h, w, 3]."""
    height, width = rgb.shape[:2]
    scale = SIDE_PX / min(width, height)
    size = (min(MAX_ASPECT * SIDE_PX, round(width * scale)), min(MAX_ASPECT * SIDE_PX, round(height * scale)))
    return Image.fromarray(rgb).convert("L").resize(size, Image.Resampling.BOX)


def keypoints(grey: Image.Image) -> Keypoints:
    """Keypoints of a picture that `small_grey` made."""
    blurred = _blurred(np.asarray(grey, np.float32))
    y, x, level, at = _extrema(np.abs(np.diff(blurred, axis=0)))
    half = _REACH * _SIGMA_PX * 2 ** (level / 2)
    squares = _squares(blurred, at, y, x, half)
    return Keypoints(_hashes(squares), np.stack([x + 0.5, y + 0.5, half], axis=1).astype(np.float32) / SIDE_PX)


def _blurred(pixels: np.ndarray) -> np.ndarray:
    """Gaussian blur at every scale, edges mirrored: float32 [scales, h, w].

    Mirrored edges make the blur a product in the DCT domain, and a wide Gaussian passes few frequencies: a quarter
    of the work of blurring the pixels.
    """
    height, width = pixels.shape
    down, across = _waves(height), _waves(width)
    spectrum = down[0][0] @ pixels @ across[0][0].T
    out = np.empty((_NUM_SCALES, height, width), np.float32)
    for scale in range(_NUM_SCALES):
        rows, columns = down[scale][1], across[scale][1]
        np.matmul(rows @ spectrum[: rows.shape[1], : columns.shape[1]], columns.T, out=out[scale])
    return out


@functools.lru_cache(maxsize=256)
def _waves(size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every scale the DCT-II of the frequencies that its Gaussian lets pass, float32 [m, size], and the way back
    with the Gaussian in it, float32 [size, m]."""
    wave = np.arange(size)[:, None]
    dct = np.cos(np.pi / size * wave * (np.arange(size) + 0.5)) * np.where(wave, (2 / size) ** 0.5, size**-0.5)
    found = []
    for scale in range(_NUM_SCALES):
        passes = np.exp(-0.5 * (_SIGMA_PX * 2 ** (scale / 2) * np.pi / size * wave) ** 2)
        few = max(1, int((passes > 1e-3).sum()))
        found.append((dct[:few].astype(np.float32), (dct * passes)[:few].T.astype(np.float32)))
    return found


def _extrema(contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Strongest local maxima of [levels, h, w] whose square fits: (y, x, level) with fractions, and the level."""
    inner = contrast[1:-1, 1:-1, 1:-1]
    peak = inner > _LEAST_CONTRAST
    for axis in range(3):  # six comparisons leave few places to be compared with all 26 neighbours
        for side in (slice(None, -2), slice(2, None)):
            beside = [slice(1, -1)] * 3
            beside[axis] = side
            peak &= inner >= contrast[tuple(beside)]
    level, y, x = (found + 1 for found in np.unravel_index(np.flatnonzero(peak), peak.shape))
    around = contrast[level[:, None] + _AROUND[0], y[:, None] + _AROUND[1], x[:, None] + _AROUND[2]]
    tops = around.max(axis=1) == contrast[level, y, x]
    level, y, x = level[tops], y[tops], x[tops]
    half = _REACH * _SIGMA_PX * 2 ** (level / 2)
    height, width = contrast.shape[1:]
    fits = (y >= half - 0.5) & (y + half < height - 0.5) & (x >= half - 0.5) & (x + half < width - 0.5)
    level, y, x = level[fits], y[fits], x[fits]
    first = np.argsort(-contrast[level, y, x], kind="stable")[:MAX_KEYPOINTS]
    level, y, x = level[first], y[first], x[first]
    here = contrast[level, y, x]
    dy = _fraction(contrast[level, y - 1, x], here, contrast[level, y + 1, x])
    dx = _fraction(contrast[level, y, x - 1], here, contrast[level, y, x + 1])
    dl = _fraction(contrast[level - 1, y, x], here, contrast[level + 1, y, x])
    return y + dy, x + dx, level + dl, level


def _fraction(before: np.ndarray, here: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the parabola through three values has its top, -0.5..0.5."""
    bend = before + after - 2 * here
    top: np.ndarray = np.clip(0.5 * (before - after) / np.where(bend < -1e-6, bend, -1e-6), -0.5, 0.5)
    return top


def _squares(blurred: np.ndarray, level: np.ndarray, y: np.ndarray, x: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Surroundings of each keypoint, from the next finer scale, bilinear: float32 [K, grid, grid]."""
    step = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    height, width = blurred.shape[1:]
    rows = np.clip(y[:, None] + half[:, None] * step, 0, height - 1.001)
    columns = np.clip(x[:, None] + half[:, None] * step, 0, width - 1.001)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = (rows - top)[:, :, None], (columns - left)[:, None, :]
    flat = blurred.reshape(-1)
    corner = (((level - 1) * height)[:, None] + top)[:, :, None] * width + left[:, None, :]
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + width] * (1 - right) + flat[corner + width + 1] * right
    squares: np.ndarray = upper * (1 - down) + lower * down
    return squares


def _hashes(squares: np.ndarray) -> np.ndarray:
    """Signs of the low frequencies, DC left out: uint64 [K]."""
    spectrum = _COSINES @ squares @ _COSINES.T
    signs = spectrum[:, _FREQUENCIES[0], _FREQUENCIES[1]] > 0
    hashes: np.ndarray = signs.astype(np.uint64) @ (np.uint64(1) << np.arange(NUM_BITS, dtype=np.uint64))
    return hashes


# DCT-II, frequencies 0-7 of 16 samples.
_COSINES = np.cos(np.pi / _GRID * np.arange(8)[:, None] * (np.arange(_GRID) + 0.5)).astype(np.float32)
