"""Endless plane → video: a camera that pans along it, or a fixed view whose scenes morph into others.

Frames are painted as they are encoded. The camera moves by fractions of a pixel, so slow pans do not stutter.
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
from alis.formats.raw_picture import atomic_path, require_package
from alis.painting.panorama import Panorama
from alis.painting.picture_writer import FULL
from alis.plane.anchors import Draw
from alis.progress import progress_bar

_CODECS = {
    ".mp4": ("libx264", {"crf": "17", "preset": "medium", "movflags": "+faststart"}),
    ".webm": ("libvpx-vp9", {"crf": "28", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
}
_MAX_SIDE = 8192
# ITU-T H.273: BT.709 primaries, transfer and matrix; luma from 16 to 235.
_BT709, _STUDIO = 1, 1


@dataclass(frozen=True)
class VideoSettings:
    """A video's view in pixels of the plane, its frame size in pixels, its length in seconds and frames per second."""

    view_px: int
    width: int
    height: int
    seconds: float
    fps: int

    @property
    def num_frames(self) -> int:
        """Number of frames, at least 1."""
        return max(1, round(self.seconds * self.fps))


def video_settings(
    panorama: Panorama, *, seconds: float, fps: int = 30, aspect: str = "16:9", height: int | None = None
) -> VideoSettings:
    """Check a video's settings and choose its frame size.

    Args:
        aspect: width:height.
        height: of the video in pixels, by default the model's R; frames are scaled to it.

    Raises:
        InputError: a value out of range.
    """
    if not 0 < seconds <= 36_000 or not 1 <= fps <= 240:
        raise InputError(
            f"{seconds:g} seconds at {fps} frames a second is out of range", hint="use up to 36000 s and 1 to 240 fps"
        )
    # Only short decimals: computing the fraction of 1e999999999 would never end.
    found = re.fullmatch(r"(-?\d{1,5}(?:\.\d{1,5})?)(?:[:/](\d{1,5}(?:\.\d{1,5})?))?", aspect, re.ASCII)
    parts = [Fraction(part or "1") for part in found.groups()] if found else [Fraction(0)]
    if not all(parts):
        raise InputError(f"aspect {aspect[:40]!r} is unknown", hint="write e.g. 16:9")
    ratio = parts[0] / parts[1]
    tall = panorama.height if height is None else height
    # With chroma at half resolution (4:2:0), H.264 and VP9 need even sizes.
    size = (max(2, round(tall * ratio / 2) * 2), tall - tall % 2)
    if not size[1] >= 16 or max(size) > _MAX_SIDE or size[0] < 16:
        raise InputError(f"a video of {size[0]}×{size[1]} px is not possible", hint=f"use 16 to {_MAX_SIDE} px a side")
    return VideoSettings(max(2, round(panorama.height * ratio)), *size, seconds, fps)


class View:
    """A window onto the plane at any column, fractions included; recently painted blocks are cached."""

    def __init__(self, panorama: Panorama, width: int) -> None:
        self.panorama, self.width = panorama, width
        self.size = panorama.batch * panorama.tile_px
        self.block = lru_cache(maxsize=width // self.size + 3)(panorama.block)

    def at(self, x: float) -> Pixels:
        """Pixels uint8 [R, width, 3] with the left border at column x, interpolated linearly between columns."""
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


def pan(
    panorama: Panorama, settings: VideoSettings, *, speed: float, start: float = 0, loop: bool = False
) -> Iterator[Pixels]:
    """Frames of a camera that moves `speed` pixels of the plane per second; a negative speed moves left.

    Args:
        loop: close the plane to a ring, and adjust the speed so that the video loops without a jump.

    Raises:
        InputError: a speed out of range.
    """
    if not math.isfinite(speed) or abs(speed) > 1e6:
        raise InputError(f"{speed} pixels a second is out of range", hint="use at most a million")
    way = speed * settings.seconds
    if loop:
        step = panorama.ring_step
        ring = max(panorama.shortest_ring, round(abs(way) / panorama.anchor_px / step) * step)
        panorama = panorama.with_sketch(panorama.sketch.closed(ring))
        way = math.copysign(ring * panorama.anchor_px, speed or 1)
    view = View(panorama, settings.view_px)
    for frame in range(settings.num_frames):
        yield view.at(start + way * frame / settings.num_frames)


def morph(
    panorama: Panorama, settings: VideoSettings, *, changes: int = 4, start: int = 0, loop: bool = False
) -> Iterator[Pixels]:
    """Frames of a still camera while every scene morphs through its next variants.

    Args:
        changes: number of variants to morph through.
        loop: end at the first variant again.

    Raises:
        InputError: `changes` is out of range.
    """
    if not 1 <= changes <= 10_000:
        raise InputError(f"{changes} changes is out of range", hint="use 1 to 10000")
    first, last = start // panorama.anchor_px, -(-(start + settings.view_px) // panorama.anchor_px)
    sketch = panorama.sketch

    def code(anchor: int, variant: int):  # type: ignore[no-untyped-def]
        return panorama.anchor_codes.code(
            Draw(sketch.seed, anchor, variant % changes if loop else variant), sketch.psi, sketch.cluster
        )

    for frame in range(settings.num_frames):
        way = changes * frame / (settings.num_frames if loop else max(settings.num_frames - 1, 1))
        variant, part = min(int(way), changes - 1), way - min(int(way), changes - 1)
        eased = part * part * (3 - 2 * part)
        codes = {i: code(i, variant).lerp(code(i, variant + 1), eased) for i in range(first, last + 1)}
        yield panorama.with_edits(codes)[start : start + settings.view_px]


def video_frames(
    panorama: Panorama,
    settings: VideoSettings,
    *,
    speed: float | None = None,
    changes: int | None = None,
    start: int = 0,
    loop: bool = False,
) -> Iterator[Pixels]:
    """Frames of `morph` if `changes` is given, else of `pan`; the default speed is a quarter of a frame per second.

    Raises:
        InputError: both `speed` and `changes` were given.
    """
    if changes is not None:
        if speed is not None:
            raise InputError("--speed and --changes were both given", hint="give one of them")
        return morph(panorama, settings, changes=changes, start=start, loop=loop)
    return pan(panorama, settings, speed=panorama.height / 4 if speed is None else speed, start=start, loop=loop)


def write(path: str | Path, frames: Iterator[Pixels], settings: VideoSettings, *, overwrite: bool = False) -> None:
    """Encode frames as H.264 (.mp4) or VP9 (.webm); the file gets its name only when it is complete.

    Raises:
        InputError: an unknown file ending, PyAV is not installed, or the file exists.
        RunError: the disk became full.
    """
    path = Path(path)
    if path.suffix.lower() not in _CODECS:
        raise InputError(f"{path}: no video format ends in {path.suffix!r}", hint=f"use {', '.join(_CODECS)}")
    formats.check_writable(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path}: exists", hint="remove it, or overwrite a video with --force")
    av = require_package("av", path)
    codec, options = _CODECS[path.suffix.lower()]
    try:
        with atomic_path(path) as part, av.open(str(part), "w", options={}) as container:
            stream = container.add_stream(codec, rate=settings.fps)
            stream.width, stream.height, stream.pix_fmt = settings.width, settings.height, "yuv420p"
            stream.options = options
            _tag(stream.codec_context)
            with progress_bar(f"video {path.name}", settings.num_frames, "frames") as advance:
                for pixels in frames:
                    picture = Image.fromarray(pixels)
                    if picture.size != (settings.width, settings.height):
                        picture = picture.resize((settings.width, settings.height), Image.Resampling.LANCZOS)
                    container.mux(stream.encode(_frame(av, picture)))
                    advance(1)
            container.mux(stream.encode(None))
    except OSError as error:
        if error.errno in FULL:
            raise RunError(f"{path}: the disk is full", hint="free some space and run the same command again") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: can't be written", hint="give a folder that can be") from None
        raise


def _tag(codec: Any) -> None:
    """Declare the colour space: without it, players guess one from the picture's size, and not all the same one."""
    codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = _BT709, _BT709, _BT709, _STUDIO


def _frame(av: ModuleType, picture: Image.Image) -> Any:
    """A video frame converted to the colour space that `_tag` declares."""
    frame = av.VideoFrame.from_image(picture).reformat(
        format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
    )
    frame.colorspace, frame.color_range = _BT709, _STUDIO
    frame.color_primaries, frame.color_trc = _BT709, _BT709
    return frame
