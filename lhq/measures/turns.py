"""The eight ways to lay a picture: turned by 90° and mirrored; how its hashes and places change with each.

A way is a number 0-7 whose bits say: 1 the x axis is flipped, 2 the y axis is flipped, 4 the axes are swapped. The
picture laid so shows at q what the picture as it is shows at `source(q)`: swapped first, then flipped. From the
perceptual hash of a picture that of it laid otherwise is known nearly, as a mirror only changes the sign of odd
frequencies; from those of keypoints, whose bits are signs, exactly.
"""

from __future__ import annotations

import numpy as np

from lhq.measures.keypoints import FREQUENCIES, NUM_BITS

ALL = np.arange(8)
_ODD_COLUMNS = np.uint64(0x5555555555555555)
_ODD_ROWS = np.uint64(0x00FF00FF00FF00FF)


def ways(*, turned: bool, mirrored: bool) -> np.ndarray:
    """The ways that count besides the picture as it is: bool [8]."""
    mirrors = (ALL & 1) ^ (ALL >> 1 & 1) ^ (ALL >> 2)
    swaps = (ALL > 3) | (ALL == 3)
    found: np.ndarray = (
        (ALL == 0) | ((mirrors == 1) & mirrored & ((ALL < 4) | turned)) | ((mirrors == 0) & swaps & turned)
    )
    return found


def between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The way to lay the second picture so that it lies as the first, where each laid by its own way look alike."""
    swap = (one ^ two) & 4
    crossed = (one >> 1 & 1) | (one & 1) << 1
    way: np.ndarray = (two & 3) ^ np.where(swap, crossed, one & 3) | swap
    return way


def upright(thumb: np.ndarray, side: int) -> np.ndarray:
    """The way in which each small picture [N, side²] has its light to the right and below, and more of it below: the
    same scene laid otherwise comes to lie alike. int64 [N]."""
    across = np.tile(np.arange(side) - (side - 1) / 2, side).astype(np.float32)
    down = np.repeat(np.arange(side) - (side - 1) / 2, side).astype(np.float32)
    tilt = np.empty((len(thumb), 2), np.float32)
    for at in range(0, len(thumb), 1 << 14):
        tilt[at : at + (1 << 14)] = thumb[at : at + (1 << 14)].astype(np.float32) @ np.stack([across, down], axis=1)
    x, y = tilt.T
    way: np.ndarray = (x < 0) + 2 * (y < 0) + 4 * (np.abs(x) > np.abs(y)).astype(np.int64)
    return way


def whole_hash(phash: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The perceptual hashes (8 x 8 signs, rows from the top bit) of pictures laid by these ways: uint64 [N]."""
    flipped = phash ^ np.where(way & 1, _ODD_COLUMNS, np.uint64(0)) ^ np.where(way & 2, _ODD_ROWS, np.uint64(0))
    swapped = np.flatnonzero(way & 4)
    bits = np.unpackbits(flipped[swapped].astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).reshape(-1, 8, 8)
    packed = np.packbits(bits.transpose(0, 2, 1).reshape(-1, 64), axis=1)
    flipped[swapped] = packed.view(">u8")[:, 0].astype(np.uint64)
    return flipped


def key_hash(hashes: np.ndarray, way: int) -> np.ndarray:
    """Hashes of the same keypoints in a picture laid so: uint64."""
    bits = np.arange(NUM_BITS, dtype=np.uint64)
    rows, columns = FREQUENCIES
    flips = (columns % 2 * (way & 1) + rows % 2 * (way >> 1 & 1)) % 2
    flipped = hashes ^ np.uint64(int((flips.astype(np.uint64) << bits).sum()))
    if not way & 4:
        return flipped
    place = {(u, v): n for n, (u, v) in enumerate(FREQUENCIES.T.tolist())}
    out = np.zeros_like(flipped)
    for n, (u, v) in enumerate(FREQUENCIES.T.tolist()):
        out |= (flipped >> np.uint64(n) & np.uint64(1)) << np.uint64(place[v, u])
    return out


def key_place(places: np.ndarray, sides: np.ndarray, way: int) -> np.ndarray:
    """x, y and half side of keypoints in a picture of `sides` [K, 2] laid so: float32 [K, 3]."""
    out = places.copy()
    for axis in (0, 1):
        if way >> axis & 1:
            out[:, axis] = sides[:, axis] - out[:, axis]
    return out[:, [1, 0, 2]] if way & 4 else out


def sides(of: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Width and height [M, 2] of pictures laid so."""
    return np.where((way & 4)[:, None] > 0, of[:, ::-1], of)


def source(place: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Where the picture as it is shows what the one laid so shows at `place` [M, xy, grid], 0..1 of each side, if x and
    y are sampled independently: the grid stays one of x and one of y, so swapped axes are the caller's to transpose."""
    out = np.where((way & 4)[:, None, None] > 0, place[:, ::-1], place)
    for axis in (0, 1):
        flip = (way >> axis & 1).astype(bool)
        out[flip, axis] = 1 - out[flip, axis]
    return out
