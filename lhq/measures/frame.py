"""A reduced picture → its flat bars, and what is inside a plain frame on all four sides.

A bar is a run of lines of one colour that ends at an edge; a clear sky is not: it fades from line to line and has no
edge where it ends.
"""

from __future__ import annotations

import numpy as np

_FLAT = 6  # of 255: JPEG noise at an eighth of the scale stays below
_EDGE = 24


def bar(lines: np.ndarray) -> int:
    """How many of these lines, uint8 [n, m, 3], at the start are one flat colour, if an edge follows."""
    first = lines[0, :, 1]
    if int(first.max()) - int(first.min()) > 2 * _FLAT:  # one channel tells nearly always
        return 0
    low, high = lines[0].min(axis=0).astype(np.int16), lines[0].max(axis=0).astype(np.int16)
    if (high - low).max() > 2 * _FLAT:
        return 0
    colour = (low + high) // 2
    for number in range(1, len(lines)):
        away = np.abs(lines[number] - colour)
        if away.max() > _FLAT:
            # The first line may be half bar, half picture: the edge may take one more.
            after = np.abs(lines[min(number + 1, len(lines) - 1)] - colour).max(axis=1)
            return number if (after > _EDGE).mean() > 0.5 else 0
    return len(lines)


def inside(rgbx: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 4] without its frame: bars of one colour on all four sides, of less than half of either side.

    A picture without one is returned as it is; its corners tell nearly always, in 0.7 µs.
    """
    height, width = rgbx.shape[:2]
    corners = [rgbx.item(y, x, 1) for y in (0, height - 1) for x in (0, width - 1)]
    if max(corners) - min(corners) > 2 * _FLAT:
        return rgbx
    rows = rgbx[:, :, :3]
    columns = rows.swapaxes(0, 1)
    bars = []
    for lines in (rows, rows[::-1], columns, columns[::-1]):
        bars.append(bar(lines))
        if not bars[-1]:
            return rgbx
    colours = np.array([edge.mean(axis=0) for edge in (rows[0], rows[-1], columns[0], columns[-1])])
    top, bottom, left, right = bars
    if np.ptp(colours, axis=0).max() > 2 * _FLAT or 2 * (top + bottom) > height or 2 * (left + right) > width:
        return rgbx
    return np.ascontiguousarray(rgbx[top : height - bottom, left : width - right])
