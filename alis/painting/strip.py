"""Panorama → picture file: which columns, under which note; and the same picture again with one anchor redrawn.

Every strip carries a note that says how it was painted (`Note`), so that `resample` needs nothing but the picture and
the model. Batches are cut at multiples of the whole plane, so a second painting equals the first to the bit wherever
no edit reaches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    """What a strip says of itself: the model's fingerprint, `Sketch.text`, its columns of the plane, the precision."""

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
        # Whole numbers alone: 1e999 is a number to JSON, and no column.
        if not all(type(word) is str for word in words) or not all(type(number) is int for number in numbers):
            raise ValueError("not a note")
        return cls(words[0], words[1], numbers[0], numbers[1], words[2])


@dataclass(frozen=True)
class StripPlan:
    """A strip to be painted."""

    panorama: Panorama
    start: int
    width: int

    @property
    def note(self) -> Note:
        """Its papers."""
        g = self.panorama.g
        return Note(fingerprint(g), self.panorama.sketch.text, self.start, self.width, precision_of(g))

    def columns(self, done: int) -> Iterator[formats.Pixels]:
        """The picture's pieces from a column on."""
        return self.panorama.blocks(self.start + done, self.start + self.width)


def fingerprint(g: Generator) -> str:
    """Sixteen hex digits of a generator's settings and weights."""
    # Settings that came later count only where they say something: a model keeps its fingerprint for life.
    unsaid = {key for key, value in _LATER.items() if getattr(g.config, key) == value}
    digest = hashlib.blake2s(g.config.model_dump_json(exclude=unsaid).encode(), digest_size=8)
    for name, tensor in sorted(g.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def plan(
    panorama: Panorama, *, width: int | None = None, frames: int | None = None, start: int = 0, loop: bool = False
) -> StripPlan:
    """Which columns to paint.

    Args:
        width: in pixels; or
        frames: in frames of R pixels; 8 when neither is given.
        start: first pixel column, any whole number.
        loop: close the plane to a ring of the nearest whole number of anchors, and paint exactly one round.

    Raises:
        InputError: width and frames, a width below 1, a start beyond the plane.
    """
    if width is not None and frames is not None:
        raise InputError("--width and --frames were both given", hint="give one of them")
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
    return StripPlan(panorama, start, width)


def paint(plan: StripPlan, path: str | Path, *, overwrite: bool = False) -> picture_writer.Strip:
    """Paint and encode (`alis.painting.picture_writer.write`, which says what can go wrong)."""
    return picture_writer.write(
        path, plan.columns, width=plan.width, height=plan.panorama.height, note=plan.note.text, overwrite=overwrite
    )


def read(
    path: str | Path, g: Generator, *, codes: Mapping[str, Tensor] | None = None, centres: Tensor | None = None
) -> StripPlan:
    """The plan a finished strip was painted from; `g` paints in that strip's precision from then on.

    Raises:
        InputError: no picture, no note in it, or a note of another model.
    """
    path = Path(path)
    text = formats.read_note(path)
    try:
        note = Note.parse(text or "")
        sketch = Sketch.parse(note.sketch)
    except (ValueError, InputError):
        raise InputError(f"{path}: carries no note of alis", hint="give a strip as alis saved it") from None
    if note.model != fingerprint(g):
        raise InputError(f"{path}: was painted by another model ({note.model})", hint="give the model that painted it")
    choose_precision(g, note.precision)
    panorama = Panorama(g, sketch=sketch, codes=codes, centres=centres)
    return plan(panorama, width=note.width, start=note.start)


def redrawn(
    plan: StripPlan, *, anchor: int | None = None, at: int | None = None, variant: int | None = None
) -> StripPlan:
    """The same columns with one anchor redrawn; beyond `Panorama.reach` of it the picture stays equal to the bit.

    Args:
        anchor: its number; or
        at: a pixel column of the picture, which means the nearest anchor.
        variant: by default the next one.

    Raises:
        InputError: neither or both of anchor and at, or an anchor that the picture doesn't show.
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
    """Whether an anchor takes part in the picture; on a ring, in any of its rounds."""
    first, last = plan.panorama.reach(anchor)
    ring_px = plan.panorama.ring_px
    if ring_px is not None:
        # The first round whose end lies right of the picture's start.
        shift = -((last - plan.start - 1) // ring_px) * ring_px
        first, last = first + shift, last + shift
    return last > plan.start and first < plan.start + plan.width


def _shown(plan: StripPlan) -> str:
    step = plan.panorama.anchor_px
    if plan.panorama.sketch.ring is not None:
        return f"of a ring of {plan.panorama.sketch.ring}"
    return f"{plan.start // step} … {-(-(plan.start + plan.width) // step)}"
