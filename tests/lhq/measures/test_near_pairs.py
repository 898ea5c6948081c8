"""All pairs within a Hamming radius, exactly as by comparing all with all, on ordinary and adversarial inputs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lhq.measures.duplicates import near_pairs
from lhq.measures.near_pairs import near_values


def all_with_all(hashes: np.ndarray, radius: int) -> np.ndarray:
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= radius
    return np.argwhere(np.triu(near, 1))


def clustered(seed: int, num: int, centres: int, flips: int) -> np.ndarray:
    """Hashes that lie around `centres` points, up to `flips` bits away: what photos look like."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, centres, dtype=np.uint64)[rng.integers(0, centres, num)]
    for _ in range(flips):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, num, dtype=np.uint64))
    return hashes


def check(hashes: np.ndarray, radius: int) -> np.ndarray:
    found = near_pairs(hashes, radius)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, all_with_all(hashes, radius).reshape(-1, 2))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 255), max_size=60),
    st.integers(0, 64) | st.just(70),
)
def test_few_hashes_of_any_kind(hashes: list[int], radius: int) -> None:
    check(np.array(hashes, np.uint64), radius)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1100, 1500, 2500]),
    st.integers(1, 400),
    st.integers(0, 8),
    st.integers(0, 12),
)
@example(29188, 2500, 1, 3, 11)  # one burst: whichever blocks agree, its groups are the burst; took minutes
def test_clustered_hashes(seed: int, num: int, centres: int, flips: int, radius: int) -> None:
    check(clustered(seed, num, centres, flips), radius)


@pytest.mark.parametrize("radius", [0, 1, 5, 11, 20, 33, 63, 64])
def test_every_radius(radius: int) -> None:
    assert len(check(clustered(radius, 2000, 500, 1), radius))


@pytest.mark.parametrize("bits", [range(14), range(50, 64), range(0, 64, 5), range(22, 36)])
def test_hashes_that_use_few_bits_go_through_the_finer_cuts(bits: range) -> None:
    """All differences in a few bits: whole blocks agree for everybody, and groups must be cut again."""
    rng = np.random.default_rng(1)
    hashes = np.zeros(4000, np.uint64)
    for bit in bits:
        hashes |= rng.integers(0, 2, 4000, dtype=np.uint64) << np.uint64(bit)
    check(hashes, 2)


def test_many_hashes_across_chunks_and_threads() -> None:
    hashes = clustered(3, 150_000, 75_000, 2)
    found = near_pairs(hashes, 5)
    assert (np.bitwise_count(hashes[found[:, 0]] ^ hashes[found[:, 1]]) <= 5).all()
    assert (found[:, 0] < found[:, 1]).all()
    assert len(np.unique(found, axis=0)) == len(found)
    # Exactly those of a sample compared with everybody.
    for row in range(0, 150_000, 7_500):
        near = np.flatnonzero(np.bitwise_count(hashes ^ hashes[row]) <= 5)
        mine = found[(found == row).any(axis=1)].sum(axis=1) - row
        np.testing.assert_array_equal(np.sort(mine), near[near != row])


def test_views_that_are_not_contiguous_and_read_only_arrays() -> None:
    hashes = clustered(4, 3000, 300, 3)
    expected = near_pairs(hashes[::3].copy(), 6)
    view = hashes[::3]
    view.flags.writeable = False
    before = view.copy()
    np.testing.assert_array_equal(near_pairs(view, 6), expected)
    np.testing.assert_array_equal(view, before)
    assert len(near_pairs(hashes[::-1], 6)) == len(near_pairs(hashes, 6))


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_to_compare(num: int) -> None:
    found = near_pairs(np.zeros(num, np.uint64), 5)
    assert found.shape == (0, 2)
    assert found.dtype == np.int64


def test_equal_hashes_are_pairs() -> None:
    check(np.array([7, 7, 9, 7, 2**63, 9], np.uint64), 0)
    assert len(near_pairs(np.zeros(1000, np.uint64), 3)) == 1000 * 999 // 2


def test_distinct_values_do_not_blow_up_where_pairs_would() -> None:
    """A hundred thousand equal hashes are five billion pairs, but one value."""
    values = np.unique(np.concatenate([np.zeros(100_000, np.uint64), np.array([1, 2**40 - 1], np.uint64)]))
    np.testing.assert_array_equal(near_values(values, 5), [[0, 1]])


@pytest.mark.parametrize(
    ("hashes", "radius", "error", "says"),
    [
        (np.zeros(3, np.int64), 5, TypeError, "int64"),
        (np.zeros(3, np.float64), 5, TypeError, "float64"),
        ([1, 2], 5, TypeError, "list"),
        (np.zeros((3, 2), np.uint64), 5, ValueError, r"shape \(3, 2\)"),
        (np.zeros(3, np.uint64), -1, ValueError, "radius -1"),
    ],
)
def test_wrong_arguments(hashes: np.ndarray, radius: int, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        near_pairs(hashes, radius)


def test_hashes_of_fewer_bits_may_say_so() -> None:
    values = np.unique(np.random.default_rng(6).integers(0, 2**21, 4000, dtype=np.uint64))
    for num_bits in (21, 30, 64):
        found = near_values(values, 2, num_bits)
        np.testing.assert_array_equal(found[np.lexsort(found.T[::-1])], all_with_all(values, 2))


def test_memory_a_hash() -> None:
    hashes = np.random.default_rng(5).integers(0, 2**64, 1_000_000, dtype=np.uint64)
    tracemalloc.start()
    try:
        near_pairs(hashes, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / len(hashes) <= 100, f"{peak / len(hashes):.0f} bytes a hash"
