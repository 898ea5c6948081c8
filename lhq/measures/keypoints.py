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
from collections.abc import Sequence
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
_TOGETHER = 8  # pictures whose planes stay in a core's cache
_GRID = 16  # samples a side of the hashed square
FREQUENCIES = np.array([(u, v) for u in range(8) for v in range(8) if 0 < u + v <= 8]).T
_AROUND = np.mgrid[-1:2, -1:2, -1:2].reshape(3, -1)


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Keypoints of one picture, the strongest first, at most `MAX_KEYPOINTS`.

    `hashes` is uint64 [K] (42 bits); `places` float32 [K, 3]: x, y and half side of the hashed square, in short
    sides of the picture, from its top left corner.
    """

    hashes: np.ndarray
    places: np.ndarray


def small_grey(rgbx: np.ndarray) -> Image.Image:
    """An `L` picture of `SIDE_PX` short side from uint8 [h, w, 4], rows without gaps, the fourth channel unused."""
    height, width = rgbx.shape[:2]
    scale = SIDE_PX / min(width, height)
    size = (min(MAX_ASPECT * SIDE_PX, round(width * scale)), min(MAX_ASPECT * SIDE_PX, round(height * scale)))
    whole = Image.frombuffer("RGBX", (width, height), rgbx, "raw", "RGBX", 0, 1)
    return whole.convert("L").resize(size, Image.Resampling.BOX)


def keypoints(greys: Sequence[Image.Image]) -> list[Keypoints]:
    """Keypoints of pictures that `small_grey` made, in order; the same as of each alone.

    Only blurring and the search for maxima go picture by picture. All else handles a dozen places a picture, where
    numpy's calls cost more than its sums, so it takes several pictures at once.
    """
    return [found for at in range(0, len(greys), _TOGETHER) for found in _keypoints(greys[at : at + _TOGETHER])]


def _keypoints(greys: Sequence[Image.Image]) -> list[Keypoints]:
    shape = np.array([(grey.height, grey.width) for grey in greys])
    blurred = [_blurred(np.asarray(grey, np.float32)) for grey in greys]
    contrast = [np.abs(apart := planes[1:] - planes[:-1], out=apart) for planes in blurred]
    peaks = [_peaks(levels) for levels in contrast]
    picture = np.repeat(np.arange(len(greys)), [len(peak) for peak in peaks])
    picture, y, x, level, at = _extrema(_joined(contrast, shape), picture, np.concatenate(peaks))
    half = _REACH * _SIGMA_PX * 2 ** (level / 2)
    hashes = _hashes(_squares(_joined(blurred, shape), picture, y, x, at - 1, half))
    places = np.stack([x + 0.5, y + 0.5, half], axis=1).astype(np.float32) / SIDE_PX
    cuts = np.searchsorted(picture, np.arange(1, len(greys)))
    return [Keypoints(*each) for each in zip(np.split(hashes, cuts), np.split(places, cuts), strict=True)]


@dataclass(frozen=True, slots=True)
class _Joined:
    """Planes of every picture, [planes, h, w] each, joined flat: picture n starts at `start[n]`, its `shape[n]` is
    (h, w); int64 [N] and [N, 2]."""

    flat: np.ndarray
    start: np.ndarray
    shape: np.ndarray


def _joined(planes: Sequence[np.ndarray], shape: np.ndarray) -> _Joined:
    ends = np.cumsum([each.size for each in planes])
    start = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    return _Joined(np.concatenate([each.reshape(-1) for each in planes]), start, shape)


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
        np.matmul(rows, spectrum[: rows.shape[1], : columns.shape[1]] @ columns.T, out=out[scale])
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


def _peaks(contrast: np.ndarray) -> np.ndarray:
    """Places of [levels, h, w] that no neighbour of six exceeds, as indices of the flat array: int64 [P].

    The first and the last level have neighbours on one side only, so none is sought there. The array is compared with
    itself moved along, so the margins see false neighbours: `_extrema` leaves them out.
    """
    flat = contrast.reshape(-1)
    level = contrast.shape[1] * contrast.shape[2]
    end = len(flat) - level
    here = flat[level:end]
    peak = here > _LEAST_CONTRAST
    for step in (1, contrast.shape[2], level):
        peak &= here >= flat[level - step : end - step]
        peak &= here >= flat[level + step : end + step]
    places: np.ndarray = np.flatnonzero(peak) + level
    return places


def _extrema(
    contrast: _Joined, picture: np.ndarray, peak: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Strongest local maxima whose square fits: (picture, y, x, level) with fractions, and the level without; picture
    by picture, the strongest first.

    Args:
        picture, peak: int64 [P], the picture of each place, and where in the picture's array it is.
    """
    flat = contrast.flat
    height, width = contrast.shape[picture].T
    level, y, x = peak // (height * width), peak // width % height, peak % width
    half = _REACH * _SIGMA_PX * 2 ** (level / 2)
    fits = (y >= half - 0.5) & (y + half < height - 0.5) & (x >= half - 0.5) & (x + half < width - 0.5)
    picture, level, y, x, width = picture[fits], level[fits], y[fits], x[fits], width[fits]
    step = np.stack([height[fits] * width, width, np.ones_like(width)])  # to the next level, row and column
    at = contrast.start[picture] + peak[fits]
    here = flat[at]
    tops = flat[at[:, None] + step.T @ _AROUND].max(axis=1) == here
    order = np.flatnonzero(tops)
    order = order[np.lexsort((-here[order], picture[order]))]
    first = np.searchsorted(picture[order], picture[order])
    few = order[np.arange(len(order)) - first < MAX_KEYPOINTS]
    picture, level, y, x, at, here, step = picture[few], level[few], y[few], x[few], at[few], here[few], step[:, few]
    dl, dy, dx = (_fraction(flat[at - one], here, flat[at + one]) for one in step)
    return picture, y + dy, x + dx, level + dl, level


def _fraction(before: np.ndarray, here: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the parabola through three values has its top, -0.5..0.5."""
    bend = before + after - 2 * here
    top: np.ndarray = np.clip(0.5 * (before - after) / np.where(bend < -1e-6, bend, -1e-6), -0.5, 0.5)
    return top


def _squares(
    blurred: _Joined,
    picture: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    half: np.ndarray,
) -> np.ndarray:
    """Surroundings of each keypoint at the `scale` of its picture, bilinear: float32 [K, grid, grid]."""
    flat = blurred.flat
    step = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    height, width = blurred.shape[picture].T[:, :, None]
    rows = np.clip(y[:, None] + half[:, None] * step, 0, height - 1.001).astype(np.float32)
    columns = np.clip(x[:, None] + half[:, None] * step, 0, width - 1.001).astype(np.float32)
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[:, :, None], (columns - left)[:, None, :]
    lines = blurred.start[picture][:, None] + (scale[:, None] * height + top.astype(np.int64)) * width
    corner = lines[:, :, None] + left.astype(np.int64)[:, None, :]
    below = corner + width[:, :, None]
    upper: np.ndarray = flat[corner]
    lower: np.ndarray = flat[below]
    upper += (flat[corner + 1] - upper) * right
    lower += (flat[below + 1] - lower) * right
    upper += (lower - upper) * down
    return upper


def _hashes(squares: np.ndarray) -> np.ndarray:
    """Signs of the low frequencies, DC left out: uint64 [K]."""
    spectrum = _COSINES @ squares @ _COSINES.T
    signs = spectrum[:, FREQUENCIES[0], FREQUENCIES[1]] > 0
    hashes: np.ndarray = signs.astype(np.uint64) @ (np.uint64(1) << np.arange(NUM_BITS, dtype=np.uint64))
    return hashes


# DCT-II, frequencies 0-7 of 16 samples.
_COSINES = np.cos(np.pi / _GRID * np.arange(8)[:, None] * (np.arange(_GRID) + 0.5)).astype(np.float32)
