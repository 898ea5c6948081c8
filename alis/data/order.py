"""Position → row: an endless shuffled sequence that is a pure function of (seed, position).

Every epoch the row groups are put in a new random order and the line of their rows is cut into `num_lanes`
equal lanes; position p of an epoch belongs to lane p mod num_lanes. A lane walks through its rows in pools of
neighbouring groups, each pool shuffled inside. So
- resuming to the image needs one number, the position, whatever the number of processes was or is;
- process r of a world that divides the lanes reads only its own row groups;
- a batch mixes as many row groups as there are lanes, and memory is pools, not images.
The num_images mod num_lanes rows at the end of the line sit out that epoch: others the next time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MAX_LANES = 8


@dataclass(frozen=True)
class Pool:
    """Consecutive pieces (group, first row, end row) of a lane, read and shuffled together."""

    pieces: tuple[tuple[int, int, int], ...]
    num_rows: int
    key: tuple[int, ...]
    """What seeds the shuffle inside."""

    def permutation(self, num_rows: int) -> np.ndarray:
        """The order [num_rows] in which the rows come (fewer than the pool's where a file was lost)."""
        return np.random.default_rng(self.key).permutation(num_rows)


class Order:
    """The sequence of one dataset.

    Args:
        group_rows, group_bytes: [num_groups], rows and bytes of each row group.
        buffer_bytes: what all lanes may hold at once, two pools each (a single larger group is taken as it is).
        num_lanes: None: as many as there are groups for, at most eight.
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
        """This epoch's order of groups, and the first row of each on the line (one more than groups)."""
        groups = np.random.default_rng((self.seed, epoch)).permutation(len(self.group_rows))
        return groups, np.concatenate([[0], np.cumsum(self.group_rows[groups])])

    def _pools(self, epoch: int, lane: int) -> tuple[tuple[Pool, ...], np.ndarray]:
        """The pools of a lane and the lane's row at which each starts (one more than pools)."""
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
