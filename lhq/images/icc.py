"""Primaries and a tone curve → an ICC profile, for files that define their colour space without embedding one."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import numpy as np

_C, _E, _D65, _DCI = (0.31, 0.316), (1 / 3, 1 / 3), (0.3127, 0.329), (0.314, 0.351)
_SMPTE = (0.63, 0.34, 0.31, 0.595, 0.155, 0.07)
_P3 = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
# White, red, green and blue as x, y. Source: ITU-T H.273, table 2.
PRIMARIES = {
    1: (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*_D65, *_SMPTE),
    7: (*_D65, *_SMPTE),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    10: (*_E, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (*_DCI, *_P3),
    12: (*_D65, *_P3),
    22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_STEPS = 4096

Curve = float | tuple[float, ...]
"""Maps stored values to linear light: an exponent, or samples in 0..1 at equal steps."""


def transfer_curve(transfer: int) -> Curve | None:
    """The curve of a transfer function by its code in ITU-T H.273, table 3; None if unknown, logarithmic or of high
    dynamic range.

    Images with a camera's curve (1, 6, 11, 14, 15) are shown by that of video displays, as browsers do: ITU-R BT.1886.
    """
    stored = np.linspace(0, 1, _STEPS)
    if transfer in {12, 13}:
        return tuple(np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4))
    if transfer == 7:
        return tuple(np.where(stored < 0.0912, stored / 4, ((stored + 0.1115) / 1.1115) ** (1 / 0.45)))
    if transfer == 17:
        return tuple(np.minimum(1, 52.37 / 48 * stored**2.6))
    return {1: 2.4, 4: 2.2, 5: 2.8, 6: 2.4, 8: 1.0, 11: 2.4, 14: 2.4, 15: 2.4}.get(transfer)


@functools.lru_cache(maxsize=16)
def matrix_profile(primaries: tuple[float, ...], curve: Curve) -> bytes:
    """Build an ICC profile.

    Args:
        primaries: x, y of white, red, green and blue: 8 numbers.
        curve: of all three channels.

    Raises:
        ValueError: the primaries are degenerate.

    Source: ICC.1:2001-04, sections 6.1 and 6.3; Bradford adaptation to D50.
    """
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"made\0" + bytes(78)}
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0"
    tags[b"wtpt"] = _xyz(_D50)
    if isinstance(curve, tuple):
        values = np.round(np.clip(curve, 0, 1) * 65_535).astype(">u2")
        stored = b"curv" + bytes(4) + struct.pack(">I", len(values)) + values.tobytes()
    else:
        # A curve of one number is stored in 256ths; use a table if that would round the exponent.
        exact = abs(curve * 256 - round(curve * 256)) < 1e-6 and 0 < curve < 256
        if not exact:
            return matrix_profile(primaries, tuple(np.linspace(0, 1, _STEPS) ** curve))
        stored = b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256))
    for name, column in zip("rgb", _to_d50(primaries).T, strict=True):
        tags[f"{name}XYZ".encode()] = _xyz(column)
        tags[f"{name}TRC".encode()] = stored
    return _serialise(tags)


def _to_d50(primaries: Sequence[float]) -> np.ndarray:
    """Matrix from linear RGB to XYZ, adapted to D50: [3, 3]."""
    points = np.array([[x, y, 1 - x - y] for x, y in np.reshape(primaries, (4, 2))]).T
    if not all(0 <= xy <= 1 for xy in np.ravel(primaries)):
        raise ValueError(f"primaries {primaries} are not within 0 to 1")
    if abs(np.linalg.det(points[:, 1:])) < 1e-4 or points[1, 0] <= 0:
        raise ValueError(f"primaries {primaries} span no space")
    white = points[:, 0] / points[1, 0]
    matrix = points[:, 1:] * np.linalg.solve(points[:, 1:], white)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    matrix_d50: np.ndarray = adapt @ matrix
    if not np.isfinite(matrix_d50).all() or np.abs(matrix_d50).max() > 8:
        raise ValueError(f"primaries {primaries} span no space")
    return matrix_d50


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65_536) for value in values))


def _serialise(tags: dict[bytes, bytes]) -> bytes:
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", offset + len(body), 0x02100000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(float(value) * 65_536) for value in _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
