"""Small ICC profiles, made tag by tag: versions 2 and 4, curves of every kind, lookup tables of RGB and CMYK."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tests.lhq.images.odd import SRGB, to_d50

_D50 = (0.9642, 1.0, 0.8249)
V2, V4 = 0x02100000, 0x04200000


def packed(tags: Mapping[bytes, bytes], model: bytes, version: int = V2, kind: bytes = b"mntr") -> bytes:
    """A profile of these tags. Source: ICC.1:2022, 7."""
    connection = b"Lab " if any(name.startswith(b"A2B") for name in tags) else b"XYZ "
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", at + len(body), version) + kind + model + connection + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def about(name: str = "odd") -> dict[bytes, bytes]:
    """The tags that every profile has."""
    said = name.encode() + b"\0"
    return {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(said)) + said + bytes(78),
        b"cprt": b"text" + bytes(4) + b"-\0",
        b"wtpt": xyz(_D50),
    }


def of_curve(curve: bytes, places: Sequence[float] = SRGB, name: str = "odd", kind: bytes = b"mntr") -> bytes:
    """Three primaries and one curve for each."""
    tags = about(name)
    for letter, column in zip("rgb", to_d50(places).T, strict=True):
        tags |= {f"{letter}XYZ".encode(): xyz(column), f"{letter}TRC".encode(): curve}
    return packed(tags, b"RGB ", V4 if curve.startswith(b"para") else V2, kind)


def of_grey(curve: bytes) -> bytes:
    return packed(about() | {b"kTRC": curve}, b"GRAY", V4)


def power(exponent: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))


def parametric(kind: int, *numbers: float) -> bytes:
    """Source: ICC.1:2022, 10.18."""
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + b"".join(_fixed(number) for number in numbers)


def table(values: Sequence[float] | np.ndarray) -> bytes:
    stored = np.round(np.asarray(values) * 65_535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(stored)) + stored.tobytes()


def cmyk() -> bytes:
    """Inks that multiply, over a curve of their own."""
    return packed(about() | {b"A2B0": _lookup(4, lambda ink: ((1 - ink[:, :3]) * (1 - ink[:, 3:])) ** 2)}, b"CMYK")


def rgb_lookup() -> bytes:
    return packed(about() | {b"A2B0": _lookup(3, lambda rgb: rgb**1.5)}, b"RGB ", kind=b"scnr")


def _lookup(num: int, light: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """lut8Type from the linear sRGB of each mixture. Source: ICC.1:2022, 10.11."""
    steps = 9 if num == 4 else 17
    mixtures = np.stack(np.meshgrid(*[np.linspace(0, 1, steps)] * num, indexing="ij"), -1).reshape(-1, num)
    of_white = light(mixtures) @ to_d50(SRGB).T / _D50
    root = np.where(of_white > 0.008856, np.cbrt(of_white), 7.787 * of_white + 16 / 116)
    x, y, z = root.T
    lab = np.stack([(116 * y - 16) / 100, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255], -1)
    head = b"mft1" + bytes(4) + bytes([num, 3, steps, 0]) + struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65_536)
    straight = bytes(range(256))
    return head + straight * num + np.round(lab.clip(0, 1) * 255).astype(np.uint8).tobytes() + straight * 3


def xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65_536))
