"""Panorama → picture file: which columns to paint, the metadata saved with them, and the same strip after an edit.

Every strip carries a note that says how it was painted (`Note`), so `alis resample` needs only the picture and the
model. Batches start at fixed columns of the plane, so painting a strip again gives identical bits wherever no edit
reaches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from alis import formats
from alis.errors import InputError
from alis.painting import picture_writer
from alis.painting.panorama import Panorama, choose_precision, precision_of
from alis.plane.anchors import MAX_ANCHOR, Draw, Sketch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from alis.models import Generator

_FRAMES = 8
_LATER = {"local_latents": 0.0, "start": "published"}


@dataclass(frozen=True)
class Note:
    """A strip's metadata: the model's fingerprint, `Sketch.text`, its columns of the plane, and the precision."""

    model: str
    sketch: str
    start: int
    width: int
    precision: str = "float32"

    @property
    def text(self) -> str:
        """One line of JSON."""
        return json.dumps({"alis": 1} | asdict(self))

    @classmethod
    def parse(cls, text: str) -> Note:
        """Raises: ValueError: not a note."""
        try:
            table = json.loads(text)
            words = [table["model"], table["sketch"], table.get("precision", "float32")]
            numbers = [table["start"], table["width"]]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a note ({error})") from None
        # Only integers: JSON also allows 1e999, which is not a column.
        if not all(type(word) is str for word in words) or not all(type(number) is int for number in numbers):
            raise ValueError("not a note")
        return cls(words[0], words[1], numbers[0], numbers[1], words[2])


@dataclass(frozen=True)
class StripPlan:
    """A strip to paint: `width` pixel columns of a panorama from column `start`."""

    panorama: Panorama
    start: int
    width: int

    @property
    def note(self) -> Note:
        """The metadata to save with the strip."""
        g = self.panorama.g
        return Note(fingerprint(g), self.panorama.sketch.text, self.start, self.width, precision_of(g))

    def columns(self, done: int) -> Iterator[formats.Pixels]:
        """The strip's pieces [R, w, 3], after the first `done` columns."""
        return self.panorama.blocks(self.start + done, self.start + self.width)


def fingerprint(g: Generator) -> str:
    """Sixteen hex digits of a generator's settings and weights."""
    # Settings added later count only if they differ from their default: a model's fingerprint must never change.
    unsaid = {key for key, value in _LATER.items() if getattr(g.config, key) == value}
    digest = hashlib.blake2s(g.config.model_dump_json(exclude=unsaid).encode(), digest_size=8)
    for name, tensor in sorted(g.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def plan(
    panorama: Panorama, *, width: int | None = None, frames: int | None = None, start: int = 0, loop: bool = False
) -> StripPlan:
    """Choose the columns to paint.

    Args:
        width: in pixels; or
        frames: in frames of R pixels; 8 if neither is given.
        start: first pixel column, any integer.
        loop: close the plane to a ring of the nearest whole number of anchors, and paint exactly one turn of it.

    Raises:
        InputError: both width and frames, no whole numbers, a width below 1, or columns beyond the plane.
    """
    if width is not None and frames is not None:
        raise InputError("--width and --frames were both given", hint="give one of them")
    for name, value in (("--width", width), ("--frames", frames), ("--start", start)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise InputError(f"{name} {value!r} is not a whole number", hint="give e.g. 1024")
    if frames is not None and frames < 1:
        raise InputError(f"--frames {frames}: nothing to paint", hint="give at least 1")
    if width is None:
        width = (frames or _FRAMES) * panorama.height
    if width < 1:
        raise InputError(f"--width {width}: nothing to paint", hint="give at least 1")
    furthest = MAX_ANCHOR * panorama.anchor_px
    if abs(start) > furthest or start + width > furthest:
        raise InputError(
            f"columns {start:,} … {start + width:,} lie beyond the plane", hint=f"stay within ±{furthest:,}"
        )
    if loop:
        step = panorama.ring_step
        ring = max(panorama.shortest_ring, round(width / panorama.anchor_px / step) * step)
        panorama = panorama.with_sketch(panorama.sketch.closed(ring))
        width = ring * panorama.anchor_px
    return StripPlan(panorama, int(start), int(width))


def paint(plan: StripPlan, path: str | Path, *, overwrite: bool = False) -> picture_writer.WrittenStrip:
    """Paint a strip into a file; errors as `alis.painting.picture_writer.write`."""
    return picture_writer.write(
        path, plan.columns, width=plan.width, height=plan.panorama.height, note=plan.note.text, overwrite=overwrite
    )


def read(
    path: str | Path, g: Generator, *, codes: Mapping[str, Tensor] | None = None, centres: Tensor | None = None
) -> StripPlan:
    """The plan that a finished strip was painted from, read from its note; `g` is set to that strip's precision.

    Raises:
        InputError: not a picture, a picture without a note, or one painted by another model.
    """
    path = Path(path)
    text = formats.read_note(path)
    try:
        note = Note.parse(text or "")
        sketch = Sketch.parse(note.sketch)
    except (ValueError, InputError):
        raise InputError(f"{path}: has no note of alis", hint="give a strip as alis saved it") from None
    if note.model != fingerprint(g):
        raise InputError(f"{path}: was painted by another model ({note.model})", hint="give the model that painted it")
    choose_precision(g, note.precision)
    panorama = Panorama(g, sketch=sketch, codes=codes, centres=centres)
    return plan(panorama, width=note.width, start=note.start)


def redrawn(
    plan: StripPlan, *, anchor: int | None = None, at: int | None = None, variant: int | None = None
) -> StripPlan:
    """The same columns with one anchor redrawn; outside `Panorama.reach` of it the picture stays identical.

    Args:
        anchor: the anchor's number; or
        at: a pixel column of the picture, which selects the nearest anchor.
        variant: number of the redraw, by default the next one.

    Raises:
        InputError: neither or both of `anchor` and `at`, or an anchor that the picture doesn't show.
    """
    if (anchor is None) == (at is None):
        raise InputError("which anchor?", hint="give one of --anchor and --at")
    panorama = plan.panorama
    if anchor is None:
        assert at is not None
        if not 0 <= at < plan.width:
            raise InputError(f"--at {at}: the picture has columns 0 … {plan.width - 1}", hint="give one of them")
        anchor = round((plan.start + at) / panorama.anchor_px)
    if not _shows(plan, anchor):
        raise InputError(f"anchor {anchor} is not in this picture", hint=f"it shows anchors {_shown(plan)}")
    if panorama.sketch.ring is not None:
        anchor %= panorama.sketch.ring
    if variant is None:
        here = panorama.sketch.source(anchor)
        variant = here.variant + 1 if isinstance(here, Draw) else 1
    return StripPlan(panorama.with_edits({anchor: variant}), plan.start, plan.width)


def _shows(plan: StripPlan, anchor: int) -> bool:
    """Whether the picture depends on an anchor; on a ring, in any of its turns."""
    first, last = plan.panorama.reach(anchor)
    ring_px = plan.panorama.ring_px
    if ring_px is not None:
        # The first turn in which the anchor's reach ends right of the picture's start.
        shift = -((last - plan.start - 1) // ring_px) * ring_px
        first, last = first + shift, last + shift
    return last > plan.start and first < plan.start + plan.width


def _shown(plan: StripPlan) -> str:
    step = plan.panorama.anchor_px
    if plan.panorama.sketch.ring is not None:
        return f"of a ring of {plan.panorama.sketch.ring}"
    return f"{plan.start // step} … {-(-(plan.start + plan.width) // step)}"
