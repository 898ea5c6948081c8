"""Descriptors → clusters: which photos are versions of one scene.

Candidates come from the 64-bit hash of the whole picture and from hashes of keypoints, which survive crops.
Each candidate is a hypothesis of how one picture lies in the other; it is confirmed by the correlation of the two
small pictures over what they share. On 21,000 pairs of different photographs the correlation stayed below 0.89,
on crops, sizes and re-encodes of one photograph above 0.94.
Everything is columns: 450,000 photos take seconds, and a pile of equal hashes is never compared all with all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lhq.measures.clusters import components
from lhq.measures.keypoints import MAX_KEYPOINTS, NUM_BITS
from lhq.measures.near_pairs import near_values

THUMB = 24
"""Side of the small grey picture that stands for a photo, squeezed to a square."""

_GRID = 16  # samples a side of the shared part
_LEAST_SHARED = 0.4  # of the smaller picture: below, too little is left to tell
_SAME_ASPECT = 1.12
_KEY_RADIUS = 2  # bits of 42 for candidates: finds 97 % of versions directly, and the rest by way of others
_FIT_RADIUS = 6  # bits of 42 for hypotheses between two photos that are suspected already
_MAX_FITS = 4
_PILE = 64  # so many photos with one hash are compared all with all; more, only neighbours in brightness
_NEIGHBOURS = 8
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What `Duplicates` knows of N photos, as columns.

    `phash` uint64 [N]; `thumb` uint8 [N, THUMB²]; `sides` float32 [N, 2]: width and height in short sides;
    `key_hash` uint64 [K], `key_place` float32 [K, 3] and `key_photo` int64 [K] of all keypoints, by photo.
    """

    phash: np.ndarray
    thumb: np.ndarray
    sides: np.ndarray
    key_hash: np.ndarray
    key_place: np.ndarray
    key_photo: np.ndarray


@dataclass(frozen=True, slots=True)
class _Fits:
    """Hypotheses: a point p of photo `left` lies at scale * p + shift in photo `right`, all in short sides."""

    left: np.ndarray
    right: np.ndarray
    scale: np.ndarray  # [M, 2]
    shift: np.ndarray  # [M, 2]

    def __getitem__(self, rows: np.ndarray | slice) -> _Fits:
        return _Fits(self.left[rows], self.right[rows], self.scale[rows], self.shift[rows])

    def __add__(self, other: _Fits) -> _Fits:
        return _Fits(
            *(np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("left", "right", "scale", "shift"))
        )


def clusters(photos: Descriptors, rank: np.ndarray, radius: int, min_likeness: float) -> tuple[np.ndarray, np.ndarray]:
    """(keeper, likeness) of each photo: int64 [N], itself where it has no better version, and float64 [N].

    Args:
        rank: int64 [N], the place of each photo in the order of keepers, 0 the best.
        radius: bits of 64 for candidates by the hash of the whole picture.
    """
    num = len(photos.phash)
    fits = _by_whole(photos, _near(photos.phash, np.arange(num), photos, radius)) + _by_keypoint(photos)
    likeness = _likeness(photos, fits)
    pairs, best = _best(np.stack([fits.left, fits.right], axis=1), likeness, num)
    sure = best >= min_likeness
    pairs, best = pairs[sure], best[sure]
    return _around_keepers(photos, components(num, pairs), rank, pairs, best, min_likeness)


def _near(hashes: np.ndarray, photo: np.ndarray, photos: Descriptors, radius: int, num_bits: int = 64) -> np.ndarray:
    """Rows of `hashes` that are candidates for each other: int64 [M, 2]; big piles only with their neighbours."""
    order = np.lexsort((photos.thumb.mean(axis=1)[photo], hashes))
    ranked = hashes[order]
    is_first = np.ones(len(ranked), bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    start = np.flatnonzero(is_first)
    size = np.diff(start, append=len(ranked))
    pile = np.repeat(np.arange(len(start)), size)
    found = [np.empty((0, 2), np.int64)]
    for step in range(1, min(_PILE, int(size.max(initial=1)))):  # within a pile
        here = np.flatnonzero(pile[step:] == pile[:-step]) if step < len(pile) else np.empty(0, np.int64)
        if step > _NEIGHBOURS:
            here = here[size[pile[here]] <= _PILE]
        found.append(np.stack([here, here + step], axis=1))
    across = near_values(ranked[start], radius, num_bits)
    across = across[(size[across] <= _PILE).all(axis=1)]
    left = np.repeat(across, size[across[:, 0]] * size[across[:, 1]], axis=0)
    each = size[across[:, 0]] * size[across[:, 1]]
    within = np.arange(len(left)) - np.repeat(np.cumsum(each) - each, each)
    width = size[left[:, 1]]
    found.append(np.stack([start[left[:, 0]] + within // width, start[left[:, 1]] + within % width], axis=1))
    return order[np.concatenate(found)]


def _by_whole(photos: Descriptors, pairs: np.ndarray) -> _Fits:
    """The whole on the whole, where both have about one shape."""
    pairs = np.sort(pairs, axis=1)
    aspect = photos.sides[:, 0] / photos.sides[:, 1]
    ratio = aspect[pairs[:, 0]] / aspect[pairs[:, 1]]
    pairs = pairs[(ratio < _SAME_ASPECT) & (ratio > 1 / _SAME_ASPECT)]
    scale = photos.sides[pairs[:, 1]] / photos.sides[pairs[:, 0]]
    return _Fits(pairs[:, 0], pairs[:, 1], scale, np.zeros_like(scale))


def _by_keypoint(photos: Descriptors) -> _Fits:
    """One hypothesis for each pair of keypoints whose hashes are near, at most `_MAX_FITS` a pair of photos."""
    keys = _near(photos.key_hash, photos.key_photo, photos, _KEY_RADIUS, NUM_BITS)
    keys = np.where((photos.key_photo[keys[:, 0]] <= photos.key_photo[keys[:, 1]])[:, None], keys, keys[:, ::-1])
    keys = keys[photos.key_photo[keys[:, 0]] != photos.key_photo[keys[:, 1]]]
    apart = np.bitwise_count(photos.key_hash[keys[:, 0]] ^ photos.key_hash[keys[:, 1]])
    return _fits_of_keys(photos, keys, apart)


def _fits_of_keys(photos: Descriptors, keys: np.ndarray, apart: np.ndarray) -> _Fits:
    left, right = photos.key_photo[keys[:, 0]], photos.key_photo[keys[:, 1]]
    order = np.lexsort((apart, right, left))
    left, right, keys = left[order], right[order], keys[order]
    new = np.ones(len(left), bool)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    turn = np.arange(len(left)) - np.maximum.accumulate(np.where(new, np.arange(len(left)), 0))
    few = turn < _MAX_FITS
    left, right, keys = left[few], right[few], keys[few]
    here, there = photos.key_place[keys[:, 0]], photos.key_place[keys[:, 1]]
    scale = np.repeat(there[:, 2:] / here[:, 2:], 2, axis=1)
    return _Fits(left, right, scale, there[:, :2] - scale * here[:, :2])


def _likeness(photos: Descriptors, fits: _Fits) -> np.ndarray:
    """Correlation over the shared part of each hypothesis: float64 [M]; -1 where too little is shared."""
    out = np.full(len(fits.left), -1.0)
    for at in range(0, len(out), _CHUNK):
        part = fits[at : at + _CHUNK]
        here, there = photos.sides[part.left], photos.sides[part.right]
        low = np.maximum(0, -part.shift / part.scale)
        size = np.minimum(here, (there - part.shift) / part.scale) - low
        area = np.where((size > 0).all(axis=1), size.prod(axis=1), 0)
        shared = area / np.minimum(here.prod(axis=1), there.prod(axis=1) / part.scale.prod(axis=1))
        some = np.flatnonzero(shared >= _LEAST_SHARED)
        low, size, part = low[some], size[some], part[some]
        step = (np.arange(_GRID) + 0.5) / _GRID
        place = low[:, :, None] + size[:, :, None] * step  # [m, xy, grid], in short sides of the left photo
        one = _sample(photos.thumb[part.left], place / photos.sides[part.left][:, :, None])
        two = _sample(
            photos.thumb[part.right],
            (part.scale[:, :, None] * place + part.shift[:, :, None]) / photos.sides[part.right][:, :, None],
        )
        one -= one.mean(axis=1, keepdims=True)
        two -= two.mean(axis=1, keepdims=True)
        energy = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
        out[at + some] = (one * two).sum(axis=1) / (energy + 1e-3)
    return out


def _sample(thumbs: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Bilinear samples of small pictures: float32 [M, grid²] at `place` [M, xy, grid], 0..1 of each side."""
    at = np.clip(place * THUMB - 0.5, 0, THUMB - 1.001).astype(np.float32)
    whole = at.astype(np.int32)
    part = at - whole
    x, y = whole[:, 0, None, :], whole[:, 1, :, None]
    right, down = part[:, 0, None, :], part[:, 1, :, None]
    corner = np.arange(len(thumbs))[:, None, None] * (THUMB * THUMB) + y * THUMB + x
    flat = thumbs.reshape(-1).astype(np.float32)
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + THUMB] * (1 - right) + flat[corner + THUMB + 1] * right
    samples: np.ndarray = (upper * (1 - down) + lower * down).reshape(len(thumbs), -1)
    return samples


def _best(pairs: np.ndarray, likeness: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pair (left < right) once, ascending, with its highest likeness."""
    code = pairs[:, 0] * num + pairs[:, 1]
    order = np.lexsort((-likeness, code))
    code, likeness = code[order], likeness[order]
    first = np.ones(len(code), bool)
    first[1:] = code[1:] != code[:-1]
    return np.stack(np.divmod(code[first], num), axis=1), likeness[first]


def _around_keepers(
    photos: Descriptors, label: np.ndarray, rank: np.ndarray, pairs: np.ndarray, best: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Round by round: the best photo left in each component keeps those that are confirmed against it."""
    num = len(label)
    keeper, likeness = np.arange(num), np.ones(num)
    code = pairs[:, 0] * num + pairs[:, 1]
    left = np.flatnonzero(np.bincount(label, minlength=num)[label] > 1)
    left = left[np.lexsort((rank[left], label[left]))]
    while len(left):
        first = np.ones(len(left), bool)
        first[1:] = label[left[1:]] != label[left[:-1]]
        chief = left[np.maximum.accumulate(np.where(first, np.arange(len(left)), 0))]
        member, chief = left[~first], chief[~first]
        both = np.sort(np.stack([member, chief], axis=1), axis=1)
        wanted = both[:, 0] * num + both[:, 1]
        at = np.minimum(np.searchsorted(code, wanted), max(len(code) - 1, 0))
        known = code[at] == wanted
        like = np.where(known, best[at], -1.0)
        like[~known] = _compare(photos, both[~known])
        same = like >= least
        keeper[member[same]], likeness[member[same]] = chief[same], like[same]
        left = member[~same]
    return keeper, likeness


def _compare(photos: Descriptors, pairs: np.ndarray) -> np.ndarray:
    """Likeness of suspected pairs (left < right) by every hypothesis that their keypoints give: float64 [M]."""
    start = np.searchsorted(photos.key_photo, np.arange(len(photos.phash) + 1))
    fits = _by_whole(photos, pairs)
    for at in range(0, len(pairs), _CHUNK):
        part = pairs[at : at + _CHUNK]
        mine = [start[part[:, side], None] + np.arange(MAX_KEYPOINTS) for side in (0, 1)]
        there = [mine[side] < start[part[:, side] + 1, None] for side in (0, 1)]
        mine = [np.where(there[side], mine[side], 0) for side in (0, 1)]
        hashes = [photos.key_hash[mine[side]] for side in (0, 1)] if len(photos.key_hash) else None
        if hashes is None:
            break
        apart = np.bitwise_count(hashes[0][:, :, None] ^ hashes[1][:, None, :])
        apart[~(there[0][:, :, None] & there[1][:, None, :])] = 255
        pair, one, two = np.nonzero(apart <= _FIT_RADIUS)
        keys = np.stack([mine[0][pair, one], mine[1][pair, two]], axis=1)
        fits = fits + _fits_of_keys(photos, keys, apart[pair, one, two])
    found, best = _best(np.stack([fits.left, fits.right], axis=1), _likeness(photos, fits), len(photos.phash))
    out = np.full(len(pairs), -1.0)
    code = found[:, 0] * len(photos.phash) + found[:, 1]
    wanted = pairs[:, 0] * len(photos.phash) + pairs[:, 1]
    if len(code):
        at = np.minimum(np.searchsorted(code, wanted), len(code) - 1)
        out = np.where(code[at] == wanted, best[at], -1.0)
    return out
