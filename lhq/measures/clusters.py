"""Pairs → clusters: union-find in numpy, all pairs at once."""

from __future__ import annotations

import numpy as np


def components(num: int, pairs: np.ndarray) -> np.ndarray:
    """Smallest member of each item's connected component: int64 [num].

    Args:
        pairs: int64 [M, 2], any order, loops and repetitions allowed.
    """
    label = np.arange(num)
    left, right = pairs[:, 0], pairs[:, 1]
    while True:
        low = np.minimum(label[left], label[right])
        before = label.copy()
        # Hook the roots (not only the two items) under the smaller label, then halve all paths to nothing.
        np.minimum.at(label, label[left], low)
        np.minimum.at(label, label[right], low)
        while not np.array_equal(label, jumped := label[label]):
            label = jumped
        if np.array_equal(label, before):
            return label


def groups(label: np.ndarray) -> list[np.ndarray]:
    """Members of every component of two or more, ascending, by their smallest member."""
    order = np.argsort(label, kind="stable")
    edges = np.flatnonzero(np.diff(label[order])) + 1
    return [part for part in np.split(order, edges) if len(part) > 1]
