"""Position → row: an endless shuffled sequence that is a pure function of (seed, position).

In every epoch, the row groups are put in a new random order, and the sequence of their rows is split into `num_lanes`
equal lanes; position p of an epoch belongs to lane p mod num_lanes. A lane reads its rows in pools of consecutive
groups and shuffles within each pool. So
- resuming at the exact image needs only one number, the position, whatever the number of processes;
- if the number of processes divides the number of lanes, each process reads only its own row groups;
- a batch mixes rows of as many row groups as there are lanes, and memory is needed only for the pools.
The last num_images mod num_lanes rows of an epoch's sequence are left out; they are others in each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MAX_LANES = 8


@dataclass(frozen=True)
class Pool:
    """Consecutive pieces (group, first row, end row) of a lane that are read and shuffled together."""

    pieces: tuple[tuple[int, int, int], ...]
    num_rows: int
    key: tuple[int, ...]
    """The seed of the pool's shuffle."""

    def permutation(self, num_rows: int) -> np.ndarray:
        """The shuffled order [num_rows] of the rows (fewer than the pool's if a file was lost)."""
        return np.random.default_rng(self.key).permutation(num_rows)


class Order:
    """The shuffled sequence of one dataset.

    Args:
        group_rows, group_bytes: number of rows and bytes of each row group, [num_groups].
        buffer_bytes: memory for all lanes, two pools each (a single larger group makes a pool of its own).
        num_lanes: None: up to eight, if there are enough groups.
    """

    def __init__(
        self,
        group_rows: np.ndarray,
        group_bytes: np.ndarray,
        seed: int,
        buffer_bytes: int,
        num_lanes: int | None = None,
    ) -> None:
        self.group_rows, self.group_bytes = group_rows, group_bytes
        self.seed = seed
        self.num_rows = int(group_rows.sum())
        if num_lanes is None:
            num_lanes = 1
            while num_lanes < MAX_LANES and num_lanes * 4 <= len(group_rows):
                num_lanes *= 2
        self.num_lanes = num_lanes
        self.pool_bytes = buffer_bytes // (2 * num_lanes)
        self.lane_rows = self.num_rows // num_lanes
        self.epoch_rows = self.lane_rows * num_lanes
        self._epoch = lru_cache(maxsize=2)(self._line)
        self.pools = lru_cache(maxsize=4 * num_lanes)(self._pools)

    def place(self, position: int) -> tuple[int, int, int]:
        """(epoch, lane, row of the lane) of a position ≥ 0."""
        epoch, inside = divmod(position, self.epoch_rows)
        return epoch, inside % self.num_lanes, inside // self.num_lanes

    def _line(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's order of groups, and the first row of each in the sequence (one more than groups)."""
        groups = np.random.default_rng((self.seed, epoch)).permutation(len(self.group_rows))
        return groups, np.concatenate([[0], np.cumsum(self.group_rows[groups])])

    def _pools(self, epoch: int, lane: int) -> tuple[tuple[Pool, ...], np.ndarray]:
        """The pools of a lane, and the lane's row where each starts (one more than pools)."""
        groups, starts = self._epoch(epoch)
        begin, end = lane * self.lane_rows, (lane + 1) * self.lane_rows
        pools: list[Pool] = []
        pieces: list[tuple[int, int, int]] = []
        held = 0
        place = int(np.searchsorted(starts, begin, side="right")) - 1
        while place < len(groups) and starts[place] < end:
            group = int(groups[place])
            size = int(self.group_bytes[group])
            if pieces and held + size > self.pool_bytes:
                pools.append(self._pool(epoch, lane, len(pools), pieces))
                pieces, held = [], 0
            first = max(begin - int(starts[place]), 0)
            last = min(end, int(starts[place + 1])) - int(starts[place])
            pieces.append((group, first, last))
            held += size
            place += 1
        pools.append(self._pool(epoch, lane, len(pools), pieces))
        return tuple(pools), np.concatenate([[0], np.cumsum([pool.num_rows for pool in pools])])

    def _pool(self, epoch: int, lane: int, number: int, pieces: list[tuple[int, int, int]]) -> Pool:
        rows = sum(last - first for _, first, last in pieces)
        return Pool(tuple(pieces), rows, (self.seed, epoch, lane, number))
