"""A finished strip and its plan with an anchor redrawn → the new strip; columns out of the edit's reach are copied.

From PNG and BigTIFF, the columns out of reach are copied from the file, so they stay identical to the bit, whatever
machine painted them. Lossy formats encode neighbouring pixels together and can't guarantee that: there the whole strip
is painted again, and the change outside the edit's reach is measured and reported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alis import formats
from alis.errors import InputError
from alis.formats import Pixels
from alis.formats.pixels import LOSSLESS, Picture
from alis.painting import picture_writer
from alis.painting.panorama import paint
from alis.painting.strip import StripPlan

_PIECE_PX = 4096
# Mean difference, in grey levels, allowed between a picture and a new painting from its note: rounding, or twice what
# compressing that painting changes, and a little.
_LOSSLESS_MEAN, _LOSSY_FACTOR, _LOSSY_MEAN = 1.0, 2.0, 4.0


@dataclass(frozen=True)
class Redrawn:
    """The new strip, the columns [a, b) that were redrawn, and the largest and mean change of others in grey levels."""

    strip: picture_writer.WrittenStrip
    redrawn: tuple[tuple[int, int], ...]
    most_elsewhere: int
    mean_elsewhere: float


def check_picture(plan: StripPlan, path: Path) -> None:
    """Check that a picture shows what its note says: it may have been cropped, scaled or edited since.

    Raises:
        InputError: it differs from its note.
    """
    picture, height = Picture(path), plan.panorama.height
    if (picture.width, picture.height) != (plan.width, height):
        raise InputError(
            f"{path}: is {picture.width:,} × {picture.height} px, its note says {plan.width:,} × {height}: "
            "it was cropped or scaled after it was painted",
            hint="give the strip as alis saved it",
        )
    tile = plan.panorama.tile_px
    first, last = plan.start // tile, (plan.start + plan.width - 1) // tile
    for k in sorted({first, (first + last) // 2, last}):
        left, right = max(k * tile, plan.start), min((k + 1) * tile, plan.start + plan.width)
        want = paint([(plan.panorama, k)])[0][:, left - k * tile : right - k * tile]
        allowed = _LOSSLESS_MEAN
        if not picture.is_lossless:
            compressed = formats.compressed(want, path)
            allowed = _LOSSY_FACTOR * np.abs(compressed.astype(int) - want).mean() + _LOSSY_MEAN
        apart = np.abs(picture.columns(left - plan.start, right - plan.start).astype(int) - want).mean()
        if apart > allowed:
            raise InputError(
                f"{path}: its columns {left - plan.start} … {right - plan.start} are not what its note says "
                f"({apart:.0f} grey levels away): it was changed after it was painted",
                hint="give the strip as alis saved it",
            )


def reaches(before: StripPlan, after: StripPlan) -> tuple[tuple[int, int], ...]:
    """The picture's columns [a, b) that may differ between two plans of the same columns, in order."""
    old, new = before.panorama, after.panorama
    anchors = {*old.sketch.edits, *new.sketch.edits}
    spans: list[tuple[int, int]] = []
    for anchor in anchors:
        if old.sketch.source(anchor) == new.sketch.source(anchor):
            continue
        left, right = new.reach(anchor)
        turns = [0]
        if new.ring_px is not None:
            first = (after.start - right) // new.ring_px
            turns = [*range(first, (after.start + after.width - left) // new.ring_px + 1)]
        for turn in turns:
            shift = turn * (new.ring_px or 0) - after.start
            a, b = max(left + shift, 0), min(right + shift, after.width)
            if a < b:
                spans.append((a, b))
    merged: list[tuple[int, int]] = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return tuple(merged)


def write(before: StripPlan, after: StripPlan, source: Path, out: Path, *, overwrite: bool = False) -> Redrawn:
    """Paint the columns in reach of the edit, copy the others, and encode the new strip.

    Raises:
        InputError, RunError: as `alis.painting.picture_writer.write`.
    """
    redrawn = reaches(before, after)
    form = picture_writer.check(out, after.width, after.panorama.height, overwrite=overwrite)
    is_whole = form.is_lossless and source.suffix.lower() in LOSSLESS
    old = Picture(source)
    copy = old if old.is_lossless else None
    parts = _parts(after.width, redrawn)

    def columns(done: int) -> Iterator[Pixels]:
        for a, b, is_new in parts:
            a = max(a, done)
            if a >= b:
                continue
            if is_new or copy is None:
                yield from after.panorama.blocks(after.start + a, after.start + b)
            else:
                for left in range(a, b, _PIECE_PX):
                    yield copy.columns(left, min(left + _PIECE_PX, b))

    with tempfile.TemporaryFile(dir=out.absolute().parent) as kept:
        # Keep the old pixels of a lossy picture for comparison: writing may replace the file.
        if not is_whole:
            for left, right in _elsewhere(parts):
                kept.write(old.columns(left, right).tobytes())
        strip = picture_writer.write(
            out, columns, width=after.width, height=after.panorama.height, note=after.note.text, overwrite=overwrite
        )
        most, total, num = 0, 0, 0
        if not is_whole:
            kept.seek(0)
            now = Picture(out)
            for left, right in _elsewhere(parts):
                pixels = now.columns(left, right)
                before_it = np.frombuffer(kept.read(pixels.size), np.uint8).reshape(pixels.shape)
                apart = np.abs(pixels.astype(np.int16) - before_it)
                most, total, num = max(most, int(apart.max())), total + int(apart.sum()), num + apart.size
    return Redrawn(strip, redrawn, most, total / max(num, 1))


def _elsewhere(parts: list[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
    """The columns out of reach, in pieces [left, right) of at most 4096."""
    for a, b, is_new in parts:
        if not is_new:
            for left in range(a, b, _PIECE_PX):
                yield left, min(left + _PIECE_PX, b)


def _parts(width: int, redrawn: tuple[tuple[int, int], ...]) -> list[tuple[int, int, bool]]:
    """The picture's columns split into parts (a, b, whether they are in reach)."""
    found, at = [], 0
    for a, b in redrawn:
        found += [(at, a, False), (a, b, True)]
        at = b
    found.append((at, width, False))
    return [(a, b, is_new) for a, b, is_new in found if a < b]


def summary(done: Redrawn) -> str:
    """What changed, in one line."""
    where = ", ".join(f"{a:,} … {b:,}" for a, b in done.redrawn) or "nothing"
    if not done.most_elsewhere:
        is_lossless = formats.find(done.strip.path).is_lossless
        rest = "none, all others are identical to the bit" if is_lossless else "none"
    else:
        rest = (
            f"others by at most {done.most_elsewhere} grey levels, {done.mean_elsewhere:.2f} on average "
            "(a lossy format encodes the whole picture again)"
        )
    return f"redrawn: columns {where}; changed elsewhere: {rest}"
