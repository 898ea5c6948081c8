"""The eight orientations of a picture: rotated by 90° and mirrored; how its hashes and places change with each.

A way is a number 0-7 whose bits say: 1 the x axis is flipped, 2 the y axis is flipped, 4 the axes are swapped. The
picture laid so shows at q what the picture as it is shows at `source(q)`: swapped first, then flipped. Hashes
of keypoints are signs of frequencies, so those of the same keypoints laid otherwise are known exactly.
"""

from __future__ import annotations

import numpy as np

from lhq.measures.keypoints import FREQUENCIES, NUM_BITS

ALL = np.arange(8)
_CHUNK = 1 << 13


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


def upright(thumb: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """How to lay each small picture [N, side²] so that the same scene laid otherwise comes to lie alike, and its hash
    when it lies so.

    A mirror changes the sign of odd frequencies and a swap of axes transposes them: the lowest frequency of each axis
    is made positive, and the stronger one the first. The hash is of signs of 8 x 8 frequencies.

    Returns:
        (way, hash): int64 and uint64 [N].
    """
    wave = np.arange(8)[:, None]
    dct = np.cos(np.pi / side * wave * (np.arange(side) + 0.5)).astype(np.float32)
    way, hashes = np.empty(len(thumb), np.int64), np.empty(len(thumb), np.uint64)
    odd = (-1.0) ** np.arange(8, dtype=np.float32)
    for at in range(0, len(thumb), _CHUNK):
        part = slice(at, at + _CHUNK)
        spectrum = dct @ thumb[part].reshape(-1, side, side).astype(np.float32) @ dct.T
        across, down = spectrum[:, 0, 1], spectrum[:, 1, 0]
        flip_x, flip_y, swap = across < 0, down < 0, np.abs(across) > np.abs(down)
        way[part] = flip_x + 2 * flip_y + 4 * swap.astype(np.int64)
        spectrum[flip_x] *= odd
        spectrum[flip_y] *= odd[:, None]
        spectrum[swap] = spectrum[swap].transpose(0, 2, 1)
        spectrum[:, 0, 0] = 0
        hashes[part] = np.packbits((spectrum > 0).reshape(-1, 64), axis=1).view(">u8")[:, 0]
    return way, hashes


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
