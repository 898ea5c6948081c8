"""Hashes → pairs: all pairs of 64-bit hashes within a Hamming radius, exactly.

Cut the 64 bits into radius + k blocks: two hashes within the radius differ in at most `radius` blocks, so they
agree on at least k whole ones. For each choice of k blocks, sort by those blocks' bits and compare what falls
together. Sorting moves the bits, not indices: hashes are permuted so that the chosen blocks lead, sorted as
plain integers and permuted back by their place in the list of distinct hashes. A pair that agrees on more than
k blocks would be found many times; it is taken only from the first of its choices.

More blocks mean more sorts of smaller groups: k follows from the number of hashes. Hashes of real pictures are
far from uniform, so a group that is too large for comparing all with all is cut again by its remaining bits. Where the
groups of all choices together are half as much work as the set itself (a burst of photos around one hash, whichever
bits are taken), cutting helps nobody, and the set is compared all with all.
Source: Manku, Jain, Das Sarma, "Detecting near-duplicates for web crawling", WWW 2007, section 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lhq.system import num_cores

_BITS = 64
_CHUNK = 1 << 16  # hashes worked on at once: three such arrays stay in a core's cache
_GROUP = 192  # a larger group is cut again instead of comparing all with all
_DENSE = 6  # while more than one value in so many agrees with its neighbour, all are compared
_COMPARABLE = 1 << 16  # a set that can still be compared all with all, in two seconds, where cutting doesn't help
_SMALL = 1024  # so few hashes are compared all with all: 0.5 million comparisons cost less than one sort's overhead
# What one hash costs to permute and sort, in comparisons of two hashes; measured 8 to 20.
_SORT_COST = 12.0


def near_pairs(hashes: np.ndarray, radius: int) -> np.ndarray:
    """All pairs of `hashes` (uint64 [N]) at most `radius` bits apart, exactly: int64 [M, 2], i < j, sorted.

    Equal hashes are pairs too: a pile of n equal ones is n (n - 1) / 2 rows, so where piles are to be expected
    take the distinct hashes first and use `near_values`.

    Raises:
        TypeError: `hashes` is not a uint64 array.
        ValueError: it is not one-dimensional, or `radius` is negative.
    """
    _check(hashes, radius)
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    is_first = np.ones(len(ranked), bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    start = np.flatnonzero(is_first)
    pairs = near_values(ranked[start], radius)
    num = np.diff(start, append=len(ranked))
    if len(start) == len(ranked):
        pairs = order[pairs]
    else:
        piles = np.flatnonzero(num > 1)
        equal = _products(start, num, piles, piles)
        equal = equal[equal[:, 0] < equal[:, 1]]
        pairs = order[np.concatenate([equal, _products(start, num, pairs[:, 0], pairs[:, 1])])]
    pairs.sort(axis=1)
    ordered: np.ndarray = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ordered


def near_values(values: np.ndarray, radius: int, num_bits: int = _BITS) -> np.ndarray:
    """Like `near_pairs` for hashes that are ascending, distinct and below 2 ** `num_bits`; pairs in no particular
    order."""
    _check(values, radius)
    if len(values) < 2:
        return np.empty((0, 2), np.int64)
    found = _search(values, num_bits, min(radius, num_bits), threads=num_cores())
    pairs = np.searchsorted(values, np.concatenate([found, np.empty((0, 2), np.uint64)]))
    pairs.sort(axis=1)
    return pairs


def _check(hashes: np.ndarray, radius: int) -> None:
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64:
        kind = getattr(hashes, "dtype", type(hashes).__name__)
        raise TypeError(f"hashes are {kind}, not a numpy array of uint64; convert with .astype(np.uint64)")
    if hashes.ndim != 1:
        raise ValueError(f"hashes have shape {hashes.shape}; give one dimension")
    if radius < 0:
        raise ValueError(f"radius {radius} is negative; 0 finds equal hashes")


def _products(start: np.ndarray, num: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Ranks of every member of pile `left[p]` with every member of pile `right[p]`: int64 [M, 2]."""
    each = num[left] * num[right]
    pair = np.repeat(np.arange(len(left)), each)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(each) - each, each)
    width = num[right][pair]
    return np.stack([start[left][pair] + within // width, start[right][pair] + within % width], axis=1)


def _search(values: np.ndarray, bits: int, radius: int, threads: int = 1) -> np.ndarray:
    """Pairs of `values` within `radius`, each once: uint64 [M, 2]. Only the low `bits` bits differ among them."""
    num_agreeing = _plan(len(values), bits, radius)
    if not num_agreeing:
        return _all_with_all(values, radius)
    cuts = np.linspace(0, bits, radius + num_agreeing + 1).round().astype(int)
    blocks = list(itertools.pairwise(cuts.tolist()))
    choices = list(itertools.combinations(range(len(blocks)), num_agreeing))
    if len(values) > _COMPARABLE:
        budget = _Budget(math.inf)
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda choice: _by_choice(values, bits, radius, blocks, choice, budget), choices))
    else:
        budget = _Budget(len(values) ** 2 / 4)
        try:
            found = [_by_choice(values, bits, radius, blocks, choice, budget) for choice in choices]
        except _TooAlike:
            return _all_with_all(values, radius)
    return np.concatenate(found)


class _TooAlike(Exception):
    """The groups of a set are as much work as the set."""


class _Budget:
    """Comparisons that the large groups of a set may take: half of all with all.

    So whatever the hashes are, a set takes at most twice its comparisons: its groups' within half of them, and its own.
    """

    def __init__(self, num: float) -> None:
        self._left = num

    def take(self, sizes: np.ndarray) -> None:
        """Groups of such sizes are about to be searched. Raises: _TooAlike."""
        self._left -= float((sizes.astype(float) ** 2).sum()) / 2
        if self._left < 0:
            raise _TooAlike


def _plan(num: int, bits: int, radius: int) -> int:
    """How many blocks must agree: the cheapest for `num` uniform hashes; 0: compare all with all."""
    best, least = 0, num / 2
    if num <= _SMALL or radius >= bits:
        return best
    for agreeing in range(1, bits - radius + 1):
        blocks = radius + agreeing
        group = num / 2 ** (bits * agreeing / blocks)
        cost = math.comb(blocks, agreeing) * (_SORT_COST + group / 2)
        if cost < least:
            best, least = agreeing, cost
    return best


def _all_with_all(values: np.ndarray, radius: int) -> np.ndarray:
    found = [np.empty((0, 2), np.uint64)]
    rows = max(1, _CHUNK // max(1, len(values)))
    for at in range(0, len(values), rows):
        left = values[at : at + rows, None]
        near = np.bitwise_count(left ^ values[None, at:]) <= radius
        row, column = np.nonzero(near)
        later = column > row
        found.append(np.stack([values[at + row[later]], values[at + column[later]]], axis=1))
    return np.concatenate(found)


def _by_choice(
    values: np.ndarray,
    bits: int,
    radius: int,
    blocks: list[tuple[int, int]],
    choice: tuple[int, ...],
    budget: _Budget,
) -> np.ndarray:
    """Pairs within `radius` for which `choice` are the first blocks that agree."""
    moves = _moves(bits, blocks, choice)
    lead = sum(blocks[block][1] - blocks[block][0] for block in choice)
    moved = values
    if any(at != to for at, _, to in moves):  # else they come ascending
        moved = _move(values, bits, moves)
        moved.sort()
    pairs = np.concatenate([np.empty((0, 2), np.uint64), *_in_groups(moved, bits - lead, radius, budget)])
    pairs = _move(pairs, bits, [(to, width, at) for at, width, to in moves])
    first: np.ndarray = pairs[_is_first_choice(pairs[:, 0] ^ pairs[:, 1], blocks, choice)]
    return first


def _moves(bits: int, blocks: list[tuple[int, int]], choice: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(from, width, to) of each run of bits, so that the chosen blocks come on top."""
    moves, top = [], bits
    rest = [block for block in range(len(blocks)) if block not in choice]
    for block in [*reversed(choice), *reversed(rest)]:
        at, end = blocks[block]
        top -= end - at
        moves.append((at, end - at, top))
    return moves


def _move(values: np.ndarray, bits: int, moves: list[tuple[int, int, int]]) -> np.ndarray:
    """`values` with runs of bits moved; bits above `bits` stay."""
    out = np.empty(values.shape, np.uint64)
    flat, target = values.reshape(-1), out.reshape(-1)
    stay = np.uint64((1 << _BITS) - (1 << bits))
    for at in range(0, len(flat), _CHUNK):
        part = flat[at : at + _CHUNK]
        sink = target[at : at + _CHUNK]
        np.bitwise_and(part, stay, out=sink)
        for start, width, to in moves:
            run = part & np.uint64(((1 << width) - 1) << start)
            if to >= start:
                run <<= np.uint64(to - start)
            else:
                run >>= np.uint64(start - to)
            sink |= run
    return out


def _in_groups(ranked: np.ndarray, bits: int, radius: int, budget: _Budget) -> Iterator[np.ndarray]:
    """Pairs within `radius` among ascending values that agree above their low `bits` bits."""
    shift = np.uint64(bits)
    last = len(ranked) - 1
    # The first of a run of _GROUP values that agree begins (or goes on with) a large group.
    far = (ranked[_GROUP:] ^ ranked[:-_GROUP]) >> shift == 0 if len(ranked) > _GROUP else np.zeros(0, bool)
    if far.any():
        prefix = ranked[:-_GROUP][far] >> shift
        large = prefix[np.concatenate([[True], prefix[1:] != prefix[:-1]])]
        start = np.searchsorted(ranked, large << shift)
        end = np.searchsorted(ranked, (large << shift) | np.uint64((1 << bits) - 1), side="right")
        budget.take(end - start)
        for low, high in zip(start.tolist(), end.tolist(), strict=True):
            yield _search(ranked[low:high], bits, radius)
        keep = np.ones(len(ranked), bool)
        for low, high in zip(start.tolist(), end.tolist(), strict=True):
            keep[low:high] = False
        ranked = ranked[keep]
        last = len(ranked) - 1
    for at in range(0, last, _CHUNK):
        yield from _among_neighbours(ranked, at, min(at + _CHUNK, last), shift, radius)


def _among_neighbours(ranked: np.ndarray, start: int, end: int, shift: np.uint64, radius: int) -> Iterator[np.ndarray]:
    """Pairs within `radius` of values at `start` to `end` with later ones that agree above the low `shift` bits.

    Step by step: while many of a step agree, whole stretches are compared, which is quicker than picking values out.
    """
    most, step, num = np.uint64((1 << int(shift)) - 1), 1, end - start
    while num * _DENSE > end - start:
        end = min(end, len(ranked) - step)
        differ = ranked[start:end] ^ ranked[start + step : end + step]
        together = differ <= most
        near = np.flatnonzero(np.bitwise_count(differ) <= radius)
        near = near[together[near]] + start
        if len(near):
            yield np.stack([ranked[near], ranked[near + step]], axis=1)
        num, step = int(np.count_nonzero(together)), step + 1
        if num * _DENSE <= end - start:
            left = np.flatnonzero(together) + start
            break
    else:
        return
    while len(left):
        left = left[left < len(ranked) - step]
        differ = ranked[left] ^ ranked[left + step]
        together = differ <= most
        differ, left = differ[together], left[together]
        near = left[np.bitwise_count(differ) <= radius]
        if len(near):
            yield np.stack([ranked[near], ranked[near + step]], axis=1)
        step += 1


def _is_first_choice(differ: np.ndarray, blocks: list[tuple[int, int]], choice: tuple[int, ...]) -> np.ndarray:
    """True where no block before the last chosen one agrees besides the chosen."""
    first = np.ones(len(differ), bool)
    for block in range(choice[-1]):
        if block not in choice:
            low, high = blocks[block]
            first &= differ & np.uint64((1 << high) - (1 << low)) != 0
    return first
