"""(seed, k) → patch column k of an endless picture: any tile on its own, in both directions, in constant memory.

A tile is one patch, computed from its two neighbouring anchors; or, with `padding = "plane"`, a range of columns
computed together with the columns beside it that its convolutions read. It depends on nothing else. So tiles rendered
alone equal the same columns of one wide rendering up to float rounding (at most one grey level), and redrawing an
anchor changes only the columns within its `reach`. Wide renderings are computed in blocks of `batch` patches that start
at fixed columns of the plane, so two renderings of the same columns are identical to the bit.
Source: arXiv 2104.06954, sections 3 and 4 (inference).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alis import dist
from alis.config import ModelConfig
from alis.errors import InputError
from alis.formats import Pixels
from alis.models import Generator
from alis.painting.anchor_codes import AnchorCodes, checked_centres, checked_code, checked_codes
from alis.plane.anchors import MAX_ANCHOR, SavedCode, Sketch, SketchSettings, Source
from alis.plane.noise import column_noise
from alis.plane.ranges import Ranges, anchors_seen
from alis.plane.spans import halo_px
from lhq import nearest

PRECISIONS = ("float32", "bfloat16", "float16")
_WIDE = 32
_MOST_TILES = 4096
_WIDEST = 2**31 - 1
N = TypeVar("N")


class Panorama:
    """An endless plane painted by `g`. Stateless: every picture of it is a function of the model and the sketch.

    Args:
        g: a generator in eval mode with an even `w_coord_dist`; with an odd one, coordinates would have gaps.
        seed: 0 … 2^53 − 1.
        settings: psi, cluster, noise and ring, as in `alis.plane.anchors.Sketch`.
        sketch: seed, settings and edits together, instead of `seed` and `settings`.
        codes: named codes, [S] or [num_ws, S], that edits may place at anchors.
        centres: cluster centres [K, S] (`alis.painting.clusters.find`).
        batch: number of patches per batch in wide renderings.

    Raises:
        InputError: a setting out of range, or a model whose geometry has no endless plane.
    """

    def __init__(
        self,
        g: Generator,
        seed: int = 0,
        *,
        sketch: Sketch | None = None,
        codes: Mapping[str, Tensor] | None = None,
        centres: Tensor | None = None,
        batch: int | None = None,
        **settings: Unpack[SketchSettings],
    ) -> None:
        self.g = g
        plain: SketchSettings = {name: _plain(value) for name, value in settings.items()}  # type: ignore[assignment]
        self.sketch = sketch or Sketch(_plain(seed), **plain)
        saved = checked_codes(g, {} if codes is None else codes)
        self.anchor_codes = AnchorCodes(g, saved, None if centres is None else checked_centres(g, centres))
        self.batch = _batch(g.config) if batch is None else _plain(batch)
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or not 1 <= self.batch <= _MOST_TILES:
            raise InputError(f"batch {batch!r} is out of range", hint=f"use 1 to {_MOST_TILES} tiles")
        self._check()

    def _check(self) -> None:
        distance, ring, cluster = self.g.config.w_coord_dist, self.sketch.ring, self.sketch.cluster
        centres_KS = self.anchor_codes.centres_KS
        if cluster is not None and centres_KS is None:
            raise InputError("this model has no clusters yet", hint="run alis clusters MODEL first")
        if isinstance(cluster, int) and centres_KS is not None and cluster >= len(centres_KS):
            raise InputError(f"this model has no cluster {cluster}", hint=f"use 0 to {len(centres_KS) - 1}, or nearest")
        for source in self.sketch.edits.values():
            if isinstance(source, SavedCode) and source.name not in self.anchor_codes.saved:
                known = ", ".join(sorted(self.anchor_codes.saved)[:8]) or "none"
                raise InputError(f"no saved code named {source.name!r}", hint=f"codes given: {known}")
        if distance % 2:
            raise InputError(
                f"a model with w_coord_dist = {distance:g} has no endless plane: its coordinates break at every window",
                hint="train with an even w_coord_dist; the published models use 4",
            )
        if ring is not None and ring < self.shortest_ring:
            raise InputError(
                f"a ring of {ring} anchors ({ring * self.anchor_px} px) is shorter than what a tile of this model sees "
                f"({self.tile_px + 2 * self.halo_px} px)",
                hint=f"use at least {self.shortest_ring}",
            )
        if ring is not None and ring % self.ring_step:
            raise InputError(
                f"a ring of {ring} anchors does not close with w_coord_dist = {distance:g}", hint="use an even number"
            )

    @property
    def height(self) -> int:
        """Height of every picture in pixels: the model's resolution R."""
        return self.g.config.resolution

    @property
    def tile_px(self) -> int:
        """Width of a tile in pixels: R/g."""
        return self.g.config.resolution // self.g.config.grid_size

    @property
    def anchor_px(self) -> int:
        """Pixels between two anchors; anchor i is at the left border of column i · anchor_px."""
        return self.g.config.anchor_patches * self.tile_px

    @property
    def ring_px(self) -> int | None:
        """Number of columns after which the plane repeats; None = never."""
        return None if self.sketch.ring is None else self.sketch.ring * self.anchor_px

    @property
    def ring_step(self) -> int:
        """The number of anchors in a ring must be a multiple of this."""
        return 1 if self.g.config.w_coord_dist % 4 == 0 else 2

    @property
    def shortest_ring(self) -> int:
        """The smallest number of anchors in a ring: a tile must not depend on its own columns once around the ring."""
        if not self.halo_px:
            return self.ring_step
        least = -(-(self.tile_px + 2 * self.halo_px) // self.anchor_px)
        return -(-least // self.ring_step) * self.ring_step

    def with_sketch(self, sketch: Sketch) -> Panorama:
        """The same model and named codes with another sketch; the cache of computed codes is shared."""
        other = copy.copy(self)
        other.sketch = sketch
        other._check()
        return other

    def with_codes(self, codes: Mapping[str, Tensor]) -> Panorama:
        """The same plane with more named codes for edits to use.

        Raises:
            InputError: a code of the wrong shape, or a name that can't be part of a URL.
        """
        other = copy.copy(self)
        other.anchor_codes = copy.copy(self.anchor_codes)
        other.anchor_codes.saved = self.anchor_codes.saved | checked_codes(self.g, codes)
        return other

    def with_edits(self, edits: Mapping[int, Source | int | Tensor]) -> Panorama:
        """The plane with some anchors edited.

        Args:
            edits: anchor → a variant's number, a `Draw`, a `Saved` code's name, or a code tensor [S] or [num_ws, S].

        Raises:
            InputError: not such a mapping, or as `with_codes`.
        """
        if not isinstance(edits, Mapping):
            raise InputError(f"edits are {type(edits).__name__}", hint="give a mapping of anchors, e.g. {3: 1}")
        plain: dict[int, Source | int] = {}
        given: dict[str, Tensor] = {}
        for index, source in edits.items():
            if isinstance(source, Tensor):
                code = checked_code(self.g, f"of anchor {index}", source)
                name = "t" + hashlib.blake2s(code.cpu().numpy().tobytes(), digest_size=8).hexdigest()
                given[name], source = code, SavedCode(name)
            plain[_plain(index)] = _plain(source)
        return self.with_codes(given).with_sketch(self.sketch.edited(plain))

    def code(self, index: int) -> Tensor:
        """The code at an anchor: [S], or [num_ws, S] for a W+ code."""
        return self.anchor_codes.code(self.sketch.source(index), self.sketch.psi, self.sketch.cluster)

    def reach(self, index: int) -> tuple[int, int]:
        """Pixel columns [a, b) that depend on an anchor: as far as its two neighbours, plus `halo_px` on each side."""
        return (index - 1) * self.anchor_px - self.halo_px, (index + 1) * self.anchor_px + self.halo_px

    @property
    def halo_px(self) -> int:
        """How many pixels beyond a 4×4 block's column depend on it: 0 unless `padding = "plane"`."""
        return halo_px(self.g.config)

    def anchors(self, start: int, stop: int) -> range:
        """The anchors that pixel columns start … stop − 1 depend on."""
        return range((start - self.halo_px) // self.anchor_px, (stop - 1 + self.halo_px) // self.anchor_px + 2)

    def check_tile(self, k: int) -> None:
        """Raises: InputError: not an integer, or beyond the range of tile numbers."""
        most = MAX_ANCHOR * self.g.config.anchor_patches
        if isinstance(k, bool) or not isinstance(k, int) or abs(k) > most:
            raise InputError(f"tile {k!r} is out of range", hint=f"use a whole number within ±{most}")

    def tile(self, k: int) -> Pixels:
        """Patch column k, any integer: uint8 [R, R/g, 3]."""
        pixels: Pixels = paint([(self, _plain(k))])[0]
        return pixels

    def block(self, number: int) -> Pixels:
        """Tiles batch · number … batch · (number + 1) − 1 side by side: uint8 [R, batch·R/g, 3]."""
        number = _plain(number)
        self.check_tile(number * self.batch if isinstance(number, int) else number)
        if self.g.config.padding == "plane":
            column = number * self.batch * (4 // self.g.config.grid_size)
            pixels: Pixels = _paint([(self, column)], self.batch * self.tile_px)[0]
            return pixels
        tiles_PHwC = paint([(self, k) for k in range(number * self.batch, (number + 1) * self.batch)])
        return tiles_PHwC.transpose(1, 0, 2, 3).reshape(self.height, -1, 3)

    def blocks(self, start: int, stop: int) -> Iterator[Pixels]:
        """Pixel columns start … stop − 1 from left to right, in pieces uint8 [R, ≤ batch·R/g, 3]."""
        size = self.batch * self.tile_px
        for number in range(start // size, -(-stop // size)):
            left = number * size
            yield self.block(number)[:, max(start - left, 0) : stop - left]

    def __getitem__(self, columns: slice) -> Pixels:
        """Pixel columns a … b − 1 as uint8 [R, b − a, 3]; negative columns are left of the origin.

        Raises:
            InputError: an open end or a step, columns beyond the plane, or more columns than a picture can have.
        """
        if not isinstance(columns, slice) or columns.step not in {None, 1}:
            raise InputError(
                "a panorama is sliced by columns, without a step", hint="use panorama[a:b], or panorama.tile(k)"
            )
        if columns.start is None or columns.stop is None:
            raise InputError("a panorama is endless: a slice needs both ends", hint="give e.g. panorama[0:1024]")
        start, stop = _plain(columns.start), _plain(columns.stop)
        if {type(start), type(stop)} != {int}:
            raise InputError(f"columns {start!r} … {stop!r}", hint="give whole numbers, e.g. panorama[0:1024]")
        furthest = MAX_ANCHOR * self.anchor_px
        if max(abs(start), abs(stop)) > furthest:
            raise InputError(f"columns {start:,} … {stop:,} lie beyond the plane", hint=f"stay within ±{furthest:,}")
        if stop - start > _WIDEST:
            raise InputError(f"{stop - start:,} columns at once are too many", hint=f"take at most {_WIDEST:,}")
        pieces = list(self.blocks(start, stop)) if stop > start else []
        return np.concatenate([np.zeros((self.height, 0, 3), np.uint8), *pieces], axis=1)

    def image(self, start: int, stop: int) -> Image.Image:
        """The same columns as a Pillow picture."""
        return Image.fromarray(self[start:stop])

    def _repr_png_(self) -> bytes | None:
        """The first four frames as PNG, which notebooks display."""
        return self.image(0, 4 * self.height)._repr_png_()


def _batch(config: ModelConfig) -> int:
    """Patches per batch: more share the columns at the batch's sides and run faster, fewer need less memory."""
    if config.padding != "plane":
        return 16 if config.resolution <= 128 else 8
    return {16: 64, 32: 64, 64: 64, 128: 32, 256: 16}.get(config.resolution, 8)


def _plain(value: N) -> N | int:
    """NumPy scalars as Python numbers, which the sketch's text and checks expect; anything else unchanged."""
    if isinstance(value, np.floating):
        return float(value)  # type: ignore[return-value]
    return int(value) if isinstance(value, np.integer) else value


def paint(wanted: Sequence[tuple[Panorama, int]]) -> Pixels:
    """Paint tiles of several planes of one model in one batch: (plane, k) … → uint8 [P, R, R/g, 3].

    Raises:
        InputError: a tile out of range.
    """
    for plane, k in wanted:
        plane.check_tile(k)
    config = wanted[0][0].g.config
    step = 4 // config.grid_size
    return _paint([(plane, k * step) for plane, k in wanted], wanted[0][0].tile_px)


@torch.inference_mode()
def _paint(wanted: Sequence[tuple[Panorama, int]], width: int) -> Pixels:
    """Paint column ranges of planes of one model in one batch: (plane, 4×4 block column) … → uint8 [B, R, width, 3]."""
    g = wanted[0][0].g
    sketches = [plane.sketch for plane, _ in wanted]
    ranges = _ranges(g, sketches, [column for _, column in wanted], width)
    seen = anchors_seen(g.config, ranges)
    rows: dict[tuple[Source, float, int | str | None], int] = {}
    codes: list[Tensor] = []
    anchors: list[list[int]] = []
    for (plane, _), first in zip(wanted, seen.first_B.tolist(), strict=True):
        own = []
        for index in range(first, first + seen.num):
            key = (plane.sketch.source(index), plane.sketch.psi, plane.sketch.cluster)
            if key not in rows:
                code = plane.anchor_codes.code(*key)
                rows[key] = len(codes)
                codes.append(code if code.dim() == 2 else code.expand(g.config.num_ws, -1))
            own.append(rows[key])
        anchors.append(own)
    table_ALS, anchors_BK = torch.stack(codes), torch.tensor(anchors, device=g.device)
    x_BCHw = g.synthesis(table_ALS, anchors_BK, ranges, noise=_noise(g, sketches, ranges))
    grey_BHwC = (x_BCHw.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    pixels: Pixels = grey_BHwC.cpu().numpy()
    return pixels


def _ranges(g: Generator, sketches: Sequence[Sketch], columns: Sequence[int], width: int) -> Ranges:
    """The positions of the ranges; on a ring, columns are taken modulo the ring."""
    rings = [(sketch.ring or 0) * g.config.anchor_columns for sketch in sketches]
    folded = [column % ring if ring else column for column, ring in zip(columns, rings, strict=True)]
    column_B, seed_B, ring_B = (torch.tensor(v, device=g.device) for v in (folded, [s.seed for s in sketches], rings))
    return Ranges(column_B, width, seed_B=seed_B, ring_B=ring_B if any(rings) else None)


def _noise(g: Generator, sketches: Sequence[Sketch], ranges: Ranges) -> str | list[Tensor]:
    """The noise maps of each layer for a batch, each range by its own sketch; columns are absolute."""
    modes = {sketch.noise for sketch in sketches}
    if modes == {"none"} or modes == {"const"}:
        return modes.pop()
    assert ranges.seed_B is not None
    is_fresh_B, is_const_B = (
        torch.tensor([sketch.noise == mode for sketch in sketches], device=g.device)[:, None, None, None]
        for mode in ("random", "const")
    )
    stored = g.synthesis.stored_noise(ranges) if "const" in modes else None
    maps = []
    sides = zip(g.synthesis.noise_resolutions, g.synthesis.noise_spans(ranges), strict=True)
    for layer, (side, span) in enumerate(sides):
        map_B1Hw = column_noise(ranges.seed_B, layer, ranges.on_ring(span, side), side) * is_fresh_B
        if stored is not None:
            map_B1Hw = map_B1Hw + stored[layer] * is_const_B
        maps.append(map_B1Hw)
    return maps


def choose_device(name: str = "auto") -> torch.device:
    """The torch device of this name; "auto" = the GPU if there is one, else the CPU.

    Raises:
        InputError: the device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} is not available ({str(error).splitlines()[0]})", hint="use --device cpu"
        ) from None
    dist.exact_float32()
    return torch.device(name)


def choose_precision(g: Generator, name: str) -> str:
    """Set the precision that `g` paints its high resolutions in, and return its name.

    "auto" = float16 on a GPU; bfloat16 on CPUs that multiply it in hardware, for networks wide enough to gain from it
    (measured on one core: 64 channels at full height are 1.5 to 1.7 times as fast, 8 channels are slower); else
    float32. float16 on a CPU is correct but slow.

    Raises:
        InputError: an unknown precision.
    """
    if name == "auto":
        has_bfloat16 = any(
            getattr(torch.cpu, test, lambda: False)()
            for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
        is_wide = g.config.channels(g.config.resolution) >= _WIDE
        name = "float16" if g.device.type == "cuda" else "bfloat16" if has_bfloat16 and is_wide else "float32"
    if name not in PRECISIONS:
        hint = nearest.word(name, (*PRECISIONS, "auto"), f"use one of {', '.join(PRECISIONS)} or auto")
        raise InputError(f"precision {name!r} is unknown", hint=hint)
    if name != precision_of(g):
        g.set_precision(getattr(torch, name))
    return name


def precision_of(g: Generator) -> str:
    """The name of the precision that `g` paints the high resolutions in."""
    return "float32" if g.synthesis.half_from is None else str(g.synthesis.dtype).removeprefix("torch.")
