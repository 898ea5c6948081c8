"""Endless plane → film: a camera that pans along it, or a whole strip that turns into others.

Frames are painted as they are encoded; the camera moves by fractions of a pixel, so slow pans do not stutter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from alis import formats
from alis.errors import InputError, RunError
from alis.formats import Pixels
from alis.formats.rows import need, whole
from alis.painting.panorama import Panorama
from alis.painting.picture_writer import FULL
from alis.plane.anchors import Draw
from alis.progress import bar

_CODECS = {
    ".mp4": ("libx264", {"crf": "17", "preset": "medium", "movflags": "+faststart"}),
    ".webm": ("libvpx-vp9", {"crf": "28", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
}
_MAX_SIDE = 8192
# ITU-T H.273: BT.709 primaries, transfer and matrix; luma from 16 to 235.
_BT709, _STUDIO = 1, 1


@dataclass(frozen=True)
class Shot:
    """How a film looks: view in pixels of the plane, size of the film, seconds, frames a second."""

    view_px: int
    width: int
    height: int
    seconds: float
    fps: int

    @property
    def num_frames(self) -> int:
        """At least one."""
        return max(1, round(self.seconds * self.fps))


def shot(panorama: Panorama, *, seconds: float, fps: int = 30, aspect: str = "16:9", height: int | None = None) -> Shot:
    """Sizes that a film can have.

    Args:
        aspect: width:height.
        height: of the film, by default the model's R; the picture is scaled to it.

    Raises:
        InputError: a value out of range.
    """
    if not 0 < seconds <= 36_000 or not 1 <= fps <= 240:
        raise InputError(f"{seconds:g} seconds at {fps} frames a second", hint="use up to 36000 s and 1 to 240 frames")
    # Short decimals alone: a fraction of 1e999999999 would be computed for ever.
    found = re.fullmatch(r"(-?\d{1,5}(?:\.\d{1,5})?)(?:[:/](\d{1,5}(?:\.\d{1,5})?))?", aspect, re.ASCII)
    parts = [Fraction(part or "1") for part in found.groups()] if found else [Fraction(0)]
    if not all(parts):
        raise InputError(f"aspect {aspect[:40]!r} is unknown", hint="write e.g. 16:9")
    ratio = parts[0] / parts[1]
    tall = height or panorama.height
    # H.264 and VP9 with half-resolution colours take even sizes.
    size = (max(2, round(tall * ratio / 2) * 2), tall - tall % 2)
    if not size[1] >= 16 or max(size) > _MAX_SIDE or size[0] < 16:
        raise InputError(f"a film of {size[0]}×{size[1]} px", hint=f"use 16 to {_MAX_SIDE} px a side")
    return Shot(max(2, round(panorama.height * ratio)), *size, seconds, fps)


class View:
    """A window onto the plane at any fraction of a column; the last blocks are kept."""

    def __init__(self, panorama: Panorama, width: int) -> None:
        self.panorama, self.width = panorama, width
        self.size = panorama.batch * panorama.tile_px
        self.block = lru_cache(maxsize=width // self.size + 3)(panorama.block)

    def at(self, x: float) -> Pixels:
        """uint8 [R, width, 3] with its left border at column x; between columns it is mixed."""
        left = math.floor(x)
        part = x - left
        right = left + self.width + 1
        blocks = range(left // self.size, -(-right // self.size))
        wide = np.concatenate([self.block(number) for number in blocks], axis=1)
        wide = wide[:, left - blocks[0] * self.size : right - blocks[0] * self.size]
        if part == 0:
            return wide[:, :-1]
        mixed = (1 - part) * wide[:, :-1] + part * wide[:, 1:]
        pixels: Pixels = mixed.round().astype(np.uint8)
        return pixels


def pan(panorama: Panorama, shot: Shot, *, speed: float, start: float = 0, loop: bool = False) -> Iterator[Pixels]:
    """Frames of a camera moving `speed` pixels of the plane a second; negative speed goes left.

    Args:
        loop: close the plane to a ring, and adjust the speed so that the last frame meets the first.

    Raises:
        InputError: the loop would be shorter than one ring can be.
    """
    if not math.isfinite(speed) or abs(speed) > 1e6:
        raise InputError(f"{speed} pixels a second", hint="use at most a million")
    way = speed * shot.seconds
    if loop:
        step = panorama.ring_step
        ring = max(panorama.shortest_ring, round(abs(way) / panorama.anchor_px / step) * step)
        panorama = panorama.with_sketch(panorama.sketch.closed(ring))
        way = math.copysign(ring * panorama.anchor_px, speed or 1)
    view = View(panorama, shot.view_px)
    for frame in range(shot.num_frames):
        yield view.at(start + way * frame / shot.num_frames)


def walk(panorama: Panorama, shot: Shot, *, changes: int = 4, start: int = 0, loop: bool = False) -> Iterator[Pixels]:
    """Frames of a still camera while every scene turns into its next variants.

    Args:
        changes: how many variants are passed.
        loop: the last variant is the first again.

    Raises:
        InputError: no change.
    """
    if not 1 <= changes <= 10_000:
        raise InputError(f"{changes} changes", hint="use at least 1")
    first, last = start // panorama.anchor_px, -(-(start + shot.view_px) // panorama.anchor_px)
    sketch = panorama.sketch

    def code(anchor: int, variant: int):  # type: ignore[no-untyped-def]
        return panorama.anchor_codes.code(
            Draw(sketch.seed, anchor, variant % changes if loop else variant), sketch.psi, sketch.cluster
        )

    for frame in range(shot.num_frames):
        way = changes * frame / (shot.num_frames if loop else max(shot.num_frames - 1, 1))
        variant, part = min(int(way), changes - 1), way - min(int(way), changes - 1)
        eased = part * part * (3 - 2 * part)
        codes = {i: code(i, variant).lerp(code(i, variant + 1), eased) for i in range(first, last + 1)}
        yield panorama.with_edits(codes)[start : start + shot.view_px]


def film(
    panorama: Panorama,
    shot: Shot,
    *,
    speed: float | None = None,
    changes: int | None = None,
    start: int = 0,
    loop: bool = False,
) -> Iterator[Pixels]:
    """`walk` when changes are asked for, else `pan`, by default a quarter frame a second.

    Raises:
        InputError: both were asked for.
    """
    if changes is not None:
        if speed is not None:
            raise InputError("--speed and --changes were both given", hint="give one of them")
        return walk(panorama, shot, changes=changes, start=start, loop=loop)
    return pan(panorama, shot, speed=panorama.height / 4 if speed is None else speed, start=start, loop=loop)


def write(path: str | Path, frames: Iterator[Pixels], shot: Shot, *, overwrite: bool = False) -> None:
    """Encode frames as H.264 (.mp4) or VP9 (.webm); the file has its name only when complete.

    Raises:
        InputError: an unknown ending, no PyAV, something in the way.
        RunError: the disk became full.
    """
    path = Path(path)
    if path.suffix.lower() not in _CODECS:
        raise InputError(f"{path}: no film format ends in {path.suffix!r}", hint=f"use {', '.join(_CODECS)}")
    formats.check_writable(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path}: exists", hint="remove it, or overwrite a film with --force")
    av = need("av", path)
    codec, options = _CODECS[path.suffix.lower()]
    try:
        with whole(path) as aside, av.open(str(aside), "w", options={}) as film:
            stream = film.add_stream(codec, rate=shot.fps)
            stream.width, stream.height, stream.pix_fmt = shot.width, shot.height, "yuv420p"
            stream.options = options
            _tag(stream.codec_context)
            with bar(f"film {path.name}", shot.num_frames, "frames") as advance:
                for pixels in frames:
                    picture = Image.fromarray(pixels)
                    if picture.size != (shot.width, shot.height):
                        picture = picture.resize((shot.width, shot.height), Image.Resampling.LANCZOS)
                    film.mux(stream.encode(_frame(av, picture)))
                    advance(1)
            film.mux(stream.encode(None))
    except OSError as error:
        if error.errno in FULL:
            raise RunError(f"{path}: the disk is full", hint="make room and run the same command again") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: can't be written", hint="give a folder that can") from None
        raise


def _tag(codec: Any) -> None:
    """Say which colours are meant: players guess otherwise, by the picture's size, and guess differently."""
    codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = _BT709, _BT709, _BT709, _STUDIO


def _frame(av: ModuleType, picture: Image.Image) -> Any:
    """A frame in the colours that the tags promise."""
    frame = av.VideoFrame.from_image(picture).reformat(
        format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
    )
    frame.colorspace, frame.color_range = _BT709, _STUDIO
    frame.color_primaries, frame.color_trc = _BT709, _BT709
    return frame
