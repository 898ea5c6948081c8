"""A spool of raw rows → PNG, JPEG, WebP, BigTIFF or Deep Zoom, under the final name only when complete.

PNG goes row by row, TIFF and Deep Zoom tile by tile: their memory does not grow with the width. (libvips streams too,
but holds bands of full-width rows: 387 MB for 1,000,000 × 64 px, so it serves only JPEG and WebP, whose own limits
bound the width.)
Source: W3C PNG, third edition; Deep Zoom file format overview.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from PIL import Image

from alis.errors import InputError
from alis.progress import bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

_CHUNK_PX = 1 << 16
_QUALITY = 92
_TILE = 256


class Rows(Protocol):
    """Where encoders read from: raw rows on disk."""

    path: Path
    width: int
    height: int

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels: ...


@dataclass(frozen=True)
class Format:
    """What a file name's ending asks for."""

    name: str
    max_width: int
    max_height: int
    disk_factor: float
    """Most disk taken while it is made, as a multiple of the raw picture's size."""
    encode: Callable[[Rows, Path, str], None]

    def exists(self, path: Path) -> bool:
        """Whether a finished picture has this name."""
        return path.exists()


def find(path: Path) -> Format:
    """Raises: InputError: no format has this ending."""
    found = FORMATS.get(path.suffix.lower())
    if not found:
        raise InputError(f"{path}: no picture format ends in {path.suffix!r}", hint=f"use {', '.join(FORMATS)}")
    return found


def check_size(path: Path, form: Format, width: int, height: int) -> None:
    """Raises: InputError: the picture is empty or the format can't hold it."""
    if width < 1 or height < 1:
        raise InputError(f"{path}: a picture of {width:,} × {height} px is empty", hint="give a width of at least 1")
    if width > form.max_width or height > form.max_height:
        wider = [ending for ending, other in FORMATS.items() if other.max_width >= width and other.max_height >= height]
        raise InputError(
            f"{path}: {width:,} × {height:,} px is beyond {form.name}'s limit of {form.max_width:,} × {form.max_height:,}",
            hint=f"use {', '.join(wider)}" if wider else f"paint at most {form.max_width:,} columns",
        )


def _finish(aside: Path, path: Path) -> None:
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)


def _aside(path: Path) -> Path:
    """Where a picture grows before it has its name; the ending stays, encoders look at it."""
    return path.with_name(f".{path.stem}.encoding{path.suffix}")


def _png(rows: Rows, path: Path, recipe: str) -> None:
    aside = _aside(path)
    try:
        with open(aside, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            _chunk(file, b"IHDR", struct.pack(">IIBBBBB", rows.width, rows.height, 8, 2, 0, 0, 0))
            _chunk(file, b"sRGB", b"\0")
            _chunk(file, b"iTXt", b"alis\0\0\0\0\0" + recipe.encode())
            packer, pending = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED), bytearray()
            with bar(f"encode {path.name}", rows.height) as advance:
                for top in range(rows.height):
                    for piece in _filtered(rows, top):
                        pending += packer.compress(piece)
                        if len(pending) >= 1 << 20:
                            _chunk(file, b"IDAT", bytes(pending))
                            pending.clear()
                    advance(1)
            _chunk(file, b"IDAT", bytes(pending) + packer.flush())
            _chunk(file, b"IEND", b"")
        _finish(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _chunk(file: BinaryIO, kind: bytes, body: bytes) -> None:
    file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def _filtered(rows: Rows, top: int) -> Iterator[bytes]:
    """One row after the PNG filter that leaves the smallest differences in its first part: Sub, Up or Paeth."""
    chosen = -1
    for left in range(0, rows.width, _CHUNK_PX):
        right, start = min(left + _CHUNK_PX, rows.width), max(left - 1, 0)
        two = rows.read(max(top - 1, 0), top + 1, start, right).astype(np.int16)
        if top == 0:
            two = np.concatenate([np.zeros_like(two), two])
        if left == 0:
            two = np.concatenate([np.zeros((2, 1, 3), np.int16), two], axis=1)
        x, west, north, corner = two[1, 1:], two[1, :-1], two[0, 1:], two[0, :-1]
        if chosen < 0:
            sums = {kind: np.abs(_predicted(kind, x, west, north, corner)).sum() for kind in (1, 2, 4)}
            chosen = min(sums, key=lambda kind: sums[kind])
            yield bytes([chosen])
        yield _predicted(chosen, x, west, north, corner).tobytes()


def _predicted(kind: int, x: NDArray, west: NDArray, north: NDArray, corner: NDArray) -> NDArray:
    """x minus its prediction, wrapped to signed bytes."""
    if kind == 1:
        guess = west
    elif kind == 2:
        guess = north
    else:
        to_west, to_north = np.abs(north - corner), np.abs(west - corner)
        to_corner = np.abs(west + north - 2 * corner)
        guess = np.where(
            (to_west <= to_north) & (to_west <= to_corner), west, np.where(to_north <= to_corner, north, corner)
        )
    return (x - guess).astype(np.int8)


def _vips(rows: Rows, path: Path, recipe: str) -> None:
    pyvips = _need("pyvips", path)
    aside = _aside(path)
    try:
        image = pyvips.Image.rawload(str(rows.path), rows.width, rows.height, 3, access="sequential")
        image = image.copy(interpretation="srgb")
        image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-ImageDescription", recipe)
        image.write_to_file(str(aside), Q=_QUALITY)
        _finish(aside, path)
    except pyvips.Error as error:
        if shutil.disk_usage(path.absolute().parent).free < rows.width * rows.height:
            raise OSError(errno.ENOSPC, "no space left") from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _tiff(rows: Rows, path: Path, recipe: str) -> None:
    tifffile = _need("tifffile", path)
    aside, side = _aside(path), min(_TILE, rows.height)

    def tiles() -> Iterator[Pixels]:
        with bar(f"encode {path.name}", -(-rows.height // side) * -(-rows.width // _TILE)) as advance:
            for top in range(0, rows.height, side):
                for left in range(0, rows.width, _TILE):
                    part = rows.read(top, min(top + side, rows.height), left, min(left + _TILE, rows.width))
                    tile = np.zeros((side, _TILE, 3), np.uint8)
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile
                    advance(1)

    try:
        tifffile.imwrite(
            aside, tiles(), shape=(rows.height, rows.width, 3), dtype=np.uint8, tile=(side, _TILE), bigtiff=True,
            compression="zlib", predictor=True, photometric="rgb", description=recipe, metadata=None, software="alis",
        )  # fmt: skip
        _finish(aside, path)
    finally:
        aside.unlink(missing_ok=True)


class _Level:
    """One level of a zoom pyramid: the raw picture itself, or a halved copy in a file of its own."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        self.path, self.width, self.height = path, width, height
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        path.unlink()

    def write(self, left: int, columns_HwC: Pixels) -> None:
        for row, line in enumerate(np.ascontiguousarray(columns_HwC)):
            data, offset = line.tobytes(), (row * self.width + left) * 3
            while data:
                written = os.pwrite(self.fd, data, offset)
                data, offset = data[written:], offset + written

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        size = (right - left) * 3
        lines = [os.pread(self.fd, size, (row * self.width + left) * 3) for row in range(top, bottom)]
        return np.frombuffer(b"".join(lines), np.uint8).reshape(bottom - top, right - left, 3)

    def close(self) -> None:
        os.close(self.fd)


def _deep_zoom(rows: Rows, path: Path, recipe: str) -> None:
    folder, aside = path.with_name(f"{path.stem}_files"), path.with_name(f".{path.stem}_files.encoding")
    shutil.rmtree(aside, ignore_errors=True)
    num_levels = (max(rows.width, rows.height) - 1).bit_length() + 1
    level: Rows = rows
    try:
        with bar(f"encode {path.name}", 2 * rows.width) as advance:
            for number in reversed(range(num_levels)):
                (aside / str(number)).mkdir(parents=True)
                for left in range(0, level.width, _TILE):
                    for top in range(0, level.height, _TILE):
                        bottom, right = min(top + _TILE + 1, level.height), min(left + _TILE + 1, level.width)
                        tile = level.read(max(top - 1, 0), bottom, max(left - 1, 0), right)
                        name = aside / str(number) / f"{left // _TILE}_{top // _TILE}.jpg"
                        Image.fromarray(tile).save(name, quality=_QUALITY)
                    advance(min(_TILE, level.width - left))
                if number:
                    smaller = _halved(level, aside / "halved")
                    if isinstance(level, _Level):
                        level.close()
                    level = smaller
        if isinstance(level, _Level):
            level.close()
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
        described = path.with_name(f".{path.name}.encoding")
        described.write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" Overlap="1" '
            f'TileSize="{_TILE}"><Size Width="{rows.width}" Height="{rows.height}"/></Image>\n',
            encoding="utf-8",
        )
        _finish(described, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _halved(level: Rows, path: Path) -> _Level:
    """The next smaller level: means of 2 × 2 pixels, edges repeated where a side is odd."""
    small = _Level(path, -(-level.width // 2), -(-level.height // 2))
    for left in range(0, small.width, 4 * _TILE):
        right = min(left + 4 * _TILE, small.width)
        part = level.read(0, level.height, 2 * left, min(2 * right, level.width)).astype(np.uint16)
        odd_rows, odd_columns = part.shape[0] % 2, part.shape[1] % 2
        part = np.pad(part, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        small.write(left, ((part[::2, ::2] + part[1::2, ::2] + part[::2, 1::2] + part[1::2, 1::2] + 2) // 4).astype(np.uint8))
    return small


def _need(module: str, path: Path):  # type: ignore[no-untyped-def]
    try:
        return __import__(module)
    except ImportError:
        raise InputError(
            f"{path}: writing {path.suffix} needs {module}", hint="pip install 'lhq[web]', or write .png"
        ) from None


_ANY = 2**31 - 1
FORMATS = {
    ".png": Format("PNG", _ANY, _ANY, 2.1, _png),
    ".jpg": Format("JPEG", 65_500, 65_500, 2.0, _vips),
    ".webp": Format("WebP", 16_383, 16_383, 2.0, _vips),
    ".tif": Format("BigTIFF", _ANY, _ANY, 2.1, _tiff),
    ".dzi": Format("Deep Zoom", _ANY, _ANY, 2.6, _deep_zoom),
}
