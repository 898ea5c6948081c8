"""Scenes A, B, … → one picture that passes through all of them.

Each scene's code is placed at two neighbouring anchors, so the frame midway between them shows exactly that scene.
Between two scenes lie `gap` anchors with random codes of the plane; with a gap of 0, one scene turns into the next
within a single interval between anchors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from alis import formats
from alis.errors import InputError
from alis.painting import invert, photograph, picture_writer, strip
from alis.painting.panorama import Panorama
from alis.painting.strip import StripPlan
from alis.plane import codes
from alis.plane.anchors import MAX_EDITS, Draw, SavedCode, Source

PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".heic"}


@dataclass(frozen=True)
class Scenes:
    """The scenes of a command line: their sources in order, the codes that were read, the photographs to invert."""

    sources: tuple[Source, ...]
    codes: Mapping[str, Tensor]
    photos: Mapping[str, Path]


def parse_scenes(words: Sequence[str]) -> Scenes:
    """Read scenes given as seeds, saved codes (.safetensors) or photographs.

    Raises:
        InputError: fewer than two scenes, or a word that is none of these.
    """
    if len(words) < 2:
        raise InputError(f"{len(words)} scene can't be connected", hint="give at least two")
    sources: list[Source] = []
    read: dict[str, Tensor] = {}
    photos: dict[str, Path] = {}
    by_path: dict[str, str] = {}
    for word in words:
        path = Path(word)
        if word.isascii() and word.isdigit():
            sources.append(Draw(int(word)))
            continue
        if path.suffix.lower() != ".safetensors" and path.suffix.lower() not in PHOTOS:
            raise InputError(
                f"{word!r} is not a seed, a saved code or a photograph",
                hint="give e.g. 7, scene.safetensors or photo.jpg",
            )
        if not path.is_file():
            raise InputError(f"{word}: no such file", hint="give a seed, a saved code or a photograph")
        if word not in by_path:
            name = codes.name_of(path)
            while name in by_path.values():
                name = f"{name[:37]}-{len(by_path)}"
            by_path[word] = name
            if path.suffix.lower() == ".safetensors":
                read[name] = codes.read(path)
            else:
                photos[name] = path
        sources.append(SavedCode(by_path[word]))
    return Scenes(tuple(sources), read, photos)


def plan(panorama: Panorama, sources: Sequence[Source], *, gap: int = 0) -> StripPlan:
    """Plan the strip from the first scene's anchor to the last scene's.

    Args:
        sources: the scenes; the panorama must know their saved codes.
        gap: anchors with random codes between two scenes.

    Raises:
        InputError: too many scenes, or a gap below 0.
    """
    if not 0 <= gap <= 10_000:
        raise InputError(f"--gap {gap} is out of range", hint="use 0 to 10000")
    # With plane padding, the picture's ends also depend on the anchor beyond them: it gets the outer scene too.
    beyond = 1 if panorama.g.config.padding == "plane" else 0
    if 2 * (len(sources) + beyond) > MAX_EDITS:
        most = MAX_EDITS // 2 - beyond
        raise InputError(f"{len(sources)} scenes are too many", hint=f"connect at most {most} at once")
    # Where coordinates repeat only every second anchor, scenes go on even anchors: elsewhere they look different.
    step = panorama.ring_step
    each = -(-(2 + gap) // step) * step
    edits = {number * each + side: source for number, source in enumerate(sources) for side in (0, 1)}
    last = (len(sources) - 1) * each + 1
    if beyond:
        edits |= {-1: sources[0], last + 1: sources[-1]}
    return StripPlan(panorama.with_edits(edits), 0, last * panorama.anchor_px)


def check(panorama: Panorama, scenes: Scenes, out: str | Path, *, gap: int = 0, overwrite: bool = False) -> None:
    """Check before minutes of inversion that the picture can be written.

    Raises:
        InputError: as `plan` and `alis.painting.picture_writer.check`.
    """
    stand_ins = [source if isinstance(source, Draw) else Draw(0) for source in scenes.sources]
    picture_writer.check(Path(out), plan(panorama, stand_ins, gap=gap).width, panorama.height, overwrite=overwrite)


def with_codes(panorama: Panorama, scenes: Scenes, *, model: str | Path, out: str | Path, steps: int = 300) -> Panorama:
    """The panorama with the codes of all scenes.

    Photographs are inverted and their codes saved beside `out`; a code saved there earlier is reused, never replaced.

    Raises:
        InputError: a photograph can't be read, or a code beside the output is of another model or photograph.
    """
    panorama = panorama.with_codes(scenes.codes)
    found: dict[str, Tensor] = {}
    kept = {name: Path(out).with_name(f"{Path(out).stem}-{name}.safetensors") for name in scenes.photos}
    for name, path in scenes.photos.items():  # check all photographs before inverting the first
        photograph.read_photo(path, panorama.g.config.resolution)
        if kept[name].exists():
            found[name] = _saved_code(kept[name], path, panorama)
        else:
            formats.check_writable(kept[name])
    missing = {name: path for name, path in scenes.photos.items() if name not in found}
    d = invert.discriminator(model, panorama.g) if missing else None
    for name, path in missing.items():
        found[name] = invert.to_file(panorama.g, invert.Photograph(path), kept[name], d=d, steps=steps).w
    return panorama.with_codes(found)


def _saved_code(path: Path, photo: Path, panorama: Panorama) -> Tensor:
    """The code that an earlier run saved beside the output.

    Raises:
        InputError: it belongs to another photograph or another model.
    """
    origin = codes.read_origin(path)
    if origin.made_from != photo.name or (origin.photo and origin.photo != codes.digest(photo)):
        raise InputError(
            f"{path}: is the code of another photograph ({origin.made_from or 'unknown'})",
            hint="move it away, or give another -o",
        )
    if origin.model and origin.model != strip.fingerprint(panorama.g):
        raise InputError(
            f"{path}: is a code of another model ({origin.model})", hint="move it away, or give another -o"
        )
    return codes.read(path)
