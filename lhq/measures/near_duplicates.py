"""Descriptors → clusters: which photos are versions of one scene.

Candidates come from the 64-bit hash of the whole picture and from hashes of keypoints, which survive crops.
Each candidate is a hypothesis about how one picture lies in the other, rotated or mirrored if need be; it is confirmed
by the correlation of the two small pictures over the area they share. On 21,000 pairs of different photographs the
correlation stayed below 0.91; on crops, resized copies and re-encodes of one photograph it was above 0.94.
Everything is held in columns: 450,000 photos take seconds, and a group of equal hashes is never compared pair by pair.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lhq.measures import turns
from lhq.measures.clusters import components
from lhq.measures.keypoints import MAX_KEYPOINTS, NUM_BITS
from lhq.measures.near_pairs import near_values
from lhq.system import num_cores

THUMB = 24
"""Side of the small grey picture that stands for a photo, squeezed to a square."""

_GRID = 16  # samples a side of the shared part
_LEAST_SHARED = 0.4  # of the smaller picture: below, too little is left to tell
_SAME_ASPECT = 1.12
_KEY_RADIUS = 2  # bits of 42 for candidates: finds 97 % of versions directly, and the rest by way of others
_FIT_RADIUS = 6  # bits of 42 for hypotheses between two photos that are suspected already
_MAX_FITS = 4
_PILE = 64  # up to so many photos of one hash are compared pair by pair; beyond, only neighbours in brightness
_NEIGHBOURS = 8
_WORTH_A_LOOK, _SURE = 0.7, 0.99  # between these correlations the samples that agree best decide alone
_BARE = 0.98  # of the contrast that one profile across the picture explains
_SAME_TONES = 8.0  # of 255, on average: re-encodes of a picture differ by less than 2
_KEPT = _GRID * _GRID * 7 // 8
_HOPS = 2
_SOMEWHAT = 0.4  # a version is at least this like its keeper, however it was confirmed
_CHUNK = 512  # hypotheses worked on at once: their samples stay in a core's cache


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What `Duplicates` knows of N photos, as columns.

    `phash` uint64 [N]; `thumb` uint8 [N, THUMB²]; `sides` float32 [N, 2]: width and height in short sides;
    `key_hash` uint64 [K], `key_place` float32 [K, 3] and `key_photo` int64 [K] of all keypoints, by photo;
    `brightness` uint32 [N], the sum of each thumb.
    """

    phash: np.ndarray
    thumb: np.ndarray
    sides: np.ndarray
    key_hash: np.ndarray
    key_place: np.ndarray
    key_photo: np.ndarray
    brightness: np.ndarray


@dataclass(frozen=True, slots=True)
class _Fits:
    """Hypotheses: a point p of photo `left` lies at scale * p + shift in photo `right` laid by `way`, all in short
    sides."""

    left: np.ndarray
    right: np.ndarray
    scale: np.ndarray  # [M, 2]
    shift: np.ndarray  # [M, 2]
    way: np.ndarray  # [M], of `turns`: how `right` is laid

    def __getitem__(self, rows: np.ndarray | slice) -> _Fits:
        return _Fits(self.left[rows], self.right[rows], self.scale[rows], self.shift[rows], self.way[rows])

    def __add__(self, other: _Fits) -> _Fits:
        names = ("left", "right", "scale", "shift", "way")
        return _Fits(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def clusters(
    photos: Descriptors, rank: np.ndarray, radius: int, min_likeness: float, ways: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(keeper, likeness) of each photo: int64 [N], itself where it has no better version, and float64 [N].

    Args:
        rank: int64 [N], the place of each photo in the order of keepers, 0 the best.
        radius: bits of 64 for candidates by the hash of the whole picture.
        ways: bool [8], see `turns.ways`: turned or mirrored versions that count.
    """
    num = len(photos.phash)
    with ThreadPoolExecutor(3) as pool:  # each has parts that keep one core busy
        by_key = pool.submit(_by_keypoint, photos)
        turned = pool.submit(_laid_otherwise, photos, radius, ways) if ways[1:].any() else None
        pairs = np.sort(_near(photos.phash, np.arange(num), photos, radius), axis=1)
        fits = _by_whole(photos, pairs, np.zeros(len(pairs), np.int64)) + by_key.result()
        fits = fits + turned.result() if turned else fits
    likeness = _similarity(photos, fits)
    pairs, best = _best(np.stack([fits.left, fits.right], axis=1), likeness, num)
    sure = best >= min_likeness
    known = _Alike(pairs[sure], best[sure])
    return _around_keepers(photos, components(num, known.pairs), rank, known, min_likeness, ways)


def _laid_otherwise(photos: Descriptors, radius: int, ways: np.ndarray) -> _Fits:
    """Whole on whole, one of them turned or mirrored: by hashes of small pictures that were all laid to lie alike."""
    way, laid = turns.upright(photos.thumb, THUMB)
    pairs = np.sort(_near(laid, np.arange(len(laid)), photos, radius), axis=1)
    needed = turns.between(way[pairs[:, 0]], way[pairs[:, 1]])
    some = ways[needed] & (needed > 0)
    return _by_whole(photos, pairs[some], needed[some])


def _near(hashes: np.ndarray, photo: np.ndarray, photos: Descriptors, radius: int, num_bits: int = 64) -> np.ndarray:
    """Rows of `hashes` that are candidates for each other: int64 [M, 2]; big piles only with their neighbours."""
    order = _order(hashes, num_bits)
    ranked = hashes[order]
    is_first = np.ones(len(ranked), bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    start = np.flatnonzero(is_first)
    size = np.diff(start, append=len(ranked))
    pile = np.repeat(np.arange(len(start)), size)
    piled = np.flatnonzero(size[pile] > 1)
    if len(piled):
        members = order[piled]
        order[piled] = members[np.lexsort((members, photos.brightness[photo[members]], pile[piled]))]
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


def _order(hashes: np.ndarray, num_bits: int) -> np.ndarray:
    """int64 [N] that sorts hashes below 2 ** `num_bits`. Where a hash and its place fit into one number they are sorted
    as such, in a third of the time of `np.argsort`."""
    place_bits = np.uint64(len(hashes).bit_length())
    if num_bits + int(place_bits) > 64:
        order: np.ndarray = np.argsort(hashes)
        return order
    both = hashes << place_bits | np.arange(len(hashes), dtype=np.uint64)
    both.sort()
    both &= (np.uint64(1) << place_bits) - np.uint64(1)
    return both.astype(np.int64)


def _by_whole(photos: Descriptors, pairs: np.ndarray, way: np.ndarray) -> _Fits:
    """The whole on the whole of pairs (left < right), where both have about one shape."""
    there = turns.sides(photos.sides[pairs[:, 1]], way)
    here = photos.sides[pairs[:, 0]]
    ratio = here[:, 0] / here[:, 1] * there[:, 1] / there[:, 0]
    some = (ratio < _SAME_ASPECT) & (ratio > 1 / _SAME_ASPECT)
    scale = there[some] / here[some]
    return _Fits(pairs[some, 0], pairs[some, 1], scale, np.zeros_like(scale), way[some])


def _by_keypoint(photos: Descriptors) -> _Fits:
    """One hypothesis for each pair of keypoints whose hashes are near, at most `_MAX_FITS` a pair of photos."""
    keys = _near(photos.key_hash, photos.key_photo, photos, _KEY_RADIUS, NUM_BITS)
    keys = np.where((photos.key_photo[keys[:, 0]] <= photos.key_photo[keys[:, 1]])[:, None], keys, keys[:, ::-1])
    keys = keys[photos.key_photo[keys[:, 0]] != photos.key_photo[keys[:, 1]]]
    apart = np.bitwise_count(photos.key_hash[keys[:, 0]] ^ photos.key_hash[keys[:, 1]])
    return _fits_of_keys(photos, keys, apart, 0)


def _fits_of_keys(photos: Descriptors, keys: np.ndarray, apart: np.ndarray, way: int) -> _Fits:
    left, right = photos.key_photo[keys[:, 0]], photos.key_photo[keys[:, 1]]
    order = np.lexsort((apart, right, left))
    left, right, keys = left[order], right[order], keys[order]
    new = np.ones(len(left), bool)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    turn = np.arange(len(left)) - np.maximum.accumulate(np.where(new, np.arange(len(left)), 0))
    few = turn < _MAX_FITS
    left, right, keys = left[few], right[few], keys[few]
    here = photos.key_place[keys[:, 0]]
    there = turns.key_place(photos.key_place[keys[:, 1]], photos.sides[right], way)
    scale = np.repeat(there[:, 2:] / here[:, 2:], 2, axis=1)
    return _Fits(left, right, scale, there[:, :2] - scale * here[:, :2], np.full(len(left), way))


def _similarity(photos: Descriptors, fits: _Fits) -> np.ndarray:
    """How alike the shared part of each hypothesis is: float64 [M]; -1 where too little is shared.

    The correlation, or what twice the correlation of the seven eighths that agree best is above 1: a watermark or a
    caption spoils a few samples and leaves all others as they were, which different scenes do not.
    """
    out = np.full(len(fits.left), -1.0)

    def compare(at: int) -> None:
        part = fits[at : at + _CHUNK]
        here, there = photos.sides[part.left], turns.sides(photos.sides[part.right], part.way)
        low = np.maximum(0, -part.shift / part.scale)
        size = np.minimum(here, (there - part.shift) / part.scale) - low
        area = np.where((size > 0).all(axis=1), size.prod(axis=1), 0)
        shared = area / np.minimum(here.prod(axis=1), there.prod(axis=1) / part.scale.prod(axis=1))
        some = np.flatnonzero(shared >= _LEAST_SHARED)
        low, size, here, there, part = low[some], size[some], here[some], there[some], part[some]
        step = (np.arange(_GRID) + 0.5) / _GRID
        place = low[:, :, None] + size[:, :, None] * step  # [m, xy, grid], in short sides of the left photo
        one = _sample(photos.thumb[part.left], place / here[:, :, None])
        laid = (part.scale[:, :, None] * place + part.shift[:, :, None]) / there[:, :, None]
        two = _sample(photos.thumb[part.right], turns.source(laid, part.way))
        swapped = np.flatnonzero(part.way & 4)
        two[swapped] = two[swapped].reshape(-1, _GRID, _GRID).transpose(0, 2, 1).reshape(-1, _GRID * _GRID)
        out[at + some] = _alike(one, two)

    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(compare, range(0, len(out), _CHUNK)))
    return out


def _alike(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of samples float32 [M, grid²] each: float64 [M]."""
    tones = np.abs(one - two).mean(axis=1)
    one -= one.mean(axis=1, keepdims=True)
    two -= two.mean(axis=1, keepdims=True)
    spread_one, spread_two = np.sqrt((one**2).sum(axis=1)), np.sqrt((two**2).sum(axis=1))
    plain = (one * two).sum(axis=1) / (spread_one * spread_two + 1e-3)
    found: np.ndarray = plain.astype(np.float64)
    samples_one, samples_two = one, two
    doubt = np.flatnonzero((plain >= _WORTH_A_LOOK) & (plain < _SURE))
    if len(doubt):
        one, two = one[doubt], two[doubt]
        most = np.ones_like(one)
        for _ in range(2):  # what disagrees most is known better without it
            norm_one, norm_two = (_normed(each, most) for each in (one, two))
            away = np.abs(norm_one - norm_two)
            bar = np.partition(away, _KEPT, axis=1)[:, _KEPT, None]
            most = (away <= bar).astype(np.float32)
        norm_one, norm_two = (_normed(each, most) for each in (one, two))
        trimmed: np.ndarray = (norm_one * norm_two * most).sum(axis=1) / most.sum(axis=1)
        found[doubt] = np.maximum(found[doubt], 2 * trimmed - 1)
    alike = np.flatnonzero(found >= _WORTH_A_LOOK)
    bare = alike[_is_bare(samples_one[alike]) & _is_bare(samples_two[alike])]
    found[bare] = np.where(tones[bare] <= _SAME_TONES, found[bare], 0.0)
    return found


def _is_bare(samples: np.ndarray) -> np.ndarray:
    """Pictures (mean 0) of which nothing but a horizon is to be seen: whatever is drawn above and below it, the
    correlation with any other such picture is high, so their tones must be the same as well. bool [M]"""
    square = samples.reshape(len(samples), _GRID, _GRID)
    energy = (square**2).sum(axis=(1, 2)) + 1e-3
    by_row, by_column = (_GRID * (square.mean(axis=axis) ** 2).sum(axis=1) for axis in (2, 1))
    bare: np.ndarray = np.maximum(by_row, by_column) / energy > _BARE
    return bare


def _normed(samples: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Mean 0 and spread 1 over those of `most`."""
    num = most.sum(axis=1, keepdims=True)
    centred = samples - (samples * most).sum(axis=1, keepdims=True) / num
    spread: np.ndarray = np.sqrt((centred**2 * most).sum(axis=1, keepdims=True) / num) + 1e-3
    normed: np.ndarray = centred / spread
    return normed


def _sample(thumbs: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Bilinear samples of small pictures: float32 [M, grid²] at `place` [M, xy, grid], 0..1 of each side."""
    at = np.clip(place * THUMB - 0.5, 0, THUMB - 1.001).astype(np.float32)
    whole = at.astype(np.int32)
    part = at - whole
    x, y = whole[:, 0, None, :], whole[:, 1, :, None]
    right, down = part[:, 0, None, :], part[:, 1, :, None]
    corner = np.arange(len(thumbs))[:, None, None] * (THUMB * THUMB) + y * THUMB + x
    flat = thumbs.reshape(-1).astype(np.float32)
    upper = flat.take(corner) * (1 - right) + flat.take(corner + 1) * right
    lower = flat.take(corner + THUMB) * (1 - right) + flat.take(corner + THUMB + 1) * right
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


@dataclass(frozen=True, slots=True)
class _Alike:
    """Pairs of photos (left < right) in ascending order, int64 [P, 2], and how alike they are, float64 [P]."""

    pairs: np.ndarray
    likeness: np.ndarray


def _around_keepers(
    photos: Descriptors, label: np.ndarray, rank: np.ndarray, known: _Alike, least: float, ways: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Round by round: the best photo left in each component keeps those that are confirmed against it, and those that
    look somewhat like it and are confirmed against one of them: two changes of a photo may be far from each other."""
    num = len(label)
    keeper, likeness = np.arange(num), np.ones(num)
    code = known.pairs[:, 0] * num + known.pairs[:, 1]
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
        is_known = code[at] == wanted
        like = np.where(is_known, known.likeness[at], -1.0)
        like[~is_known] = _compare(photos, both[~is_known], ways)
        same = like >= least
        same |= _bridged(num, member, same, like, known.pairs)
        keeper[member[same]], likeness[member[same]] = chief[same], like[same]
        left = member[~same]
    return keeper, likeness


def _bridged(num: int, member: np.ndarray, same: np.ndarray, like: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Members that are somewhat like their keeper and surely like one that is surely like it: bool, as `member`."""
    is_near, is_sure = np.zeros(num, bool), np.zeros(num, bool)
    is_near[member[~same & (like >= _SOMEWHAT)]] = True
    is_sure[member[same]] = True
    reached = np.zeros(num, bool)
    for _ in range(_HOPS):
        for one, two in (pairs.T, pairs.T[::-1]):
            reached[two[(is_sure | reached)[one] & is_near[two]]] = True
    found: np.ndarray = reached[member]
    return found


def _compare(photos: Descriptors, pairs: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Likeness of suspected pairs (left < right) by every hypothesis that their keypoints give: float64 [M]."""
    num = len(photos.phash)
    start = np.searchsorted(photos.key_photo, np.arange(num + 1))
    out = np.full(len(pairs), -1.0)
    for at in range(0, len(pairs), _CHUNK):
        part = pairs[at : at + _CHUNK]
        mine = [start[part[:, side], None] + np.arange(MAX_KEYPOINTS) for side in (0, 1)]
        there = [mine[side] < start[part[:, side] + 1, None] for side in (0, 1)]
        mine = [np.where(there[side], mine[side], 0) for side in (0, 1)]
        fits = _by_whole(photos, part, np.zeros(len(part), np.int64))
        for way in np.flatnonzero(ways).tolist():
            if way:
                fits = fits + _by_whole(photos, part, np.full(len(part), way))
            if len(photos.key_hash):
                laid = turns.key_hash(photos.key_hash[mine[1]], way)
                apart = np.bitwise_count(photos.key_hash[mine[0]][:, :, None] ^ laid[:, None, :])
                apart[~(there[0][:, :, None] & there[1][:, None, :])] = 255
                pair, one, two = np.nonzero(apart <= _FIT_RADIUS)
                keys = np.stack([mine[0][pair, one], mine[1][pair, two]], axis=1)
                fits = fits + _fits_of_keys(photos, keys, apart[pair, one, two], way)
        found, best = _best(np.stack([fits.left, fits.right], axis=1), _similarity(photos, fits), num)
        if len(found):
            code, wanted = found[:, 0] * num + found[:, 1], part[:, 0] * num + part[:, 1]
            place = np.minimum(np.searchsorted(code, wanted), len(code) - 1)
            out[at : at + _CHUNK] = np.where(code[place] == wanted, best[place], -1.0)
    return out
