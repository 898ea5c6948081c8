"""Pool of row groups → encoded pictures by index, in the pool's shuffled order, without copying their bytes."""

from __future__ import annotations

import bisect

import numpy as np
import pyarrow as pa

from alis.data.catalogue import Catalogue
from alis.data.order import Pool


class EncodedRows:
    """The encoded pictures of one pool in its shuffled order, as views on Arrow's buffers."""

    def __init__(self, pool: Pool, pieces: list[tuple[int, int, pa.Array]]) -> None:
        self.pieces = pieces
        self._views = [_Views(rows) for _, _, rows in pieces]
        self._ends = np.cumsum([len(rows) for _, _, rows in pieces]).tolist()
        self._num: int = self._ends[-1] if pieces else 0
        self.order = pool.permutation(self._num).tolist()

    def __len__(self) -> int:
        return self._num

    def _place(self, index: int) -> tuple[int, int]:
        """(piece, row of the piece) of the index-th row in shuffled order."""
        place = self.order[index % self._num]
        piece = bisect.bisect_right(self._ends, place)
        return piece, place - (self._ends[piece - 1] if piece else 0)

    def at(self, index: int) -> tuple[memoryview | None, tuple[int, int]]:
        """(bytes, (group, row of the group)) of the index-th row in shuffled order; the bytes of a null are None."""
        piece, row = self._place(index)
        group, first, _ = self.pieces[piece]
        return self._views[piece].at(row), (group, first + row)

    def name(self, index: int, catalogue: Catalogue) -> str:
        """A name for the row, for messages."""
        piece, row = self._place(index)
        group, first, rows = self.pieces[piece]
        path = None
        if pa.types.is_struct(rows.type) and rows.type.get_field_index("path") >= 0 and rows[row].is_valid:
            path = rows[row]["path"].as_py()
        return catalogue.row_name(group, first + row, path)


class _Views:
    """The rows of a binary (or struct with `bytes`) array by number, without creating an Arrow scalar for each."""

    def __init__(self, rows: pa.Array) -> None:
        # Rows that are null as a whole have null bytes after `flatten`.
        self._bytes = rows.flatten()[rows.type.get_field_index("bytes")] if pa.types.is_struct(rows.type) else rows
        wide = pa.types.is_large_binary(self._bytes.type) or pa.types.is_large_string(self._bytes.type)
        _, offsets, data = self._bytes.buffers()
        numbers = np.frombuffer(offsets, np.int64 if wide else np.int32) if offsets is not None else np.zeros(1, int)
        self._offsets = numbers[self._bytes.offset : self._bytes.offset + len(rows) + 1].tolist()
        self._data = memoryview(data).cast("B") if data is not None else memoryview(b"")
        self._has_nulls = self._bytes.null_count > 0

    def at(self, row: int) -> memoryview | None:
        if self._has_nulls and not self._bytes[row].is_valid:
            return None
        return self._data[self._offsets[row] : self._offsets[row + 1]]
