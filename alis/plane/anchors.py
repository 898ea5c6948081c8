"""(seed, i) → z of anchor i, by counter-based random numbers; and the sketch, which specifies a whole plane.

A `Sketch` is everything besides the model that determines a picture: a seed, edits of single anchors, truncation,
noise, and whether the plane closes to a ring. Its canonical text (`Sketch.text`) is part of a tile's URL on the web
page, of a permalink, and of the note inside a saved strip.

Random codes use NumPy's Philox, whose stream is guaranteed, and a Box–Muller transform of our own. So an anchor's code
is always the same, computed alone or in any order.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypedDict

import numpy as np

from alis.errors import InputError

# Limits keep seeds, anchors and columns exact in JavaScript, so that permalinks mean the same there.
MAX_SEED = 2**53 - 1
MAX_ANCHOR = 2**40
MAX_VARIANT = 2**31 - 1
MAX_EDITS = 64
MAX_PSI = 2.0
NOISES = ("random", "none", "const")
_MASK = 2**64 - 1
_STREAM = 0x616C6973  # separates these random numbers from other uses of the same seed


@dataclass(frozen=True, order=True)
class Draw:
    """A random code: that of anchor `index` on the plane of `seed`; each `variant` > 0 is another redraw of it."""

    seed: int
    index: int = 0
    variant: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_anchor(self.index)
        if not _is_whole(self.variant) or not 0 <= self.variant <= MAX_VARIANT:
            raise InputError(f"variant {self.variant!r} is out of range", hint=f"use 0 to {MAX_VARIANT}")


@dataclass(frozen=True, order=True)
class SavedCode:
    """A code that the caller supplies under a name, e.g. an inverted photograph."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9.-]{1,40}", self.name):
            raise InputError(f"code name {self.name!r} can't be part of a URL", hint="use letters, digits, . and -")


Source = Draw | SavedCode
_NOTHING: Mapping[int, Source] = MappingProxyType({})


def _is_whole(value: object) -> bool:
    """Whether a value is an integer; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_seed(seed: int) -> None:
    """Raises: InputError: not an integer from 0 to 2^53 − 1."""
    if not _is_whole(seed) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed!r} is out of range", hint=f"use a whole number from 0 to {MAX_SEED}")


def check_anchor(index: int) -> None:
    """Raises: InputError: not an integer within ±2^40."""
    if not _is_whole(index) or abs(index) > MAX_ANCHOR:
        raise InputError(f"anchor {index!r} is out of range", hint=f"use a whole number within ±{MAX_ANCHOR}")


def draw_z(draw: Draw, z_dim: int, attempt: int = 0) -> np.ndarray:
    """The standard normal z of a draw, float32 [z_dim]; a pure function of its arguments.

    Args:
        attempt: number of a further independent code of the same draw (cluster sampling takes the first that fits).
    """
    counter = np.array([0, attempt, draw.variant, draw.index & _MASK], dtype=np.uint64)
    bits = np.random.Philox(key=draw.seed | _STREAM << 64, counter=counter)
    half = (z_dim + 1) // 2
    unit = ((bits.random_raw(2 * half) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(unit[:half])), 2 * np.pi * unit[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:z_dim].astype(np.float32)


class SketchSettings(TypedDict, total=False):
    """The settings of a sketch besides its seed and edits."""

    psi: float
    cluster: int | str | None
    noise: str
    ring: int | None


@dataclass(frozen=True)
class Sketch:
    """Everything besides the model that determines the pixels of a plane.

    Args:
        seed: 0 … 2^53 − 1.
        edits: anchor → the code placed there instead of the seed's own.
        psi: truncation, 0 … 2: factor of the random codes' distance from a centre; 1 = as trained.
        cluster: that centre: None = the mean of all codes; "nearest" = the nearest cluster's centre; a number = only
            scenes of that cluster, and its centre. Saved codes are never truncated.
        noise: "random", "none" or "const" (the model's stored maps).
        ring: number of anchors after which the plane repeats; None = never.

    Raises:
        InputError: a value out of range.
    """

    seed: int = 0
    edits: Mapping[int, Source] = field(default_factory=lambda: _NOTHING)
    psi: float = 1.0
    cluster: int | str | None = None
    noise: str = "random"
    ring: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        is_number = isinstance(self.psi, int | float) and not isinstance(self.psi, bool)
        if not is_number or not 0 <= self.psi <= MAX_PSI:
            raise InputError(
                f"psi {self.psi!r} is out of range", hint=f"use 0 to {MAX_PSI:g}; 1 is the model as trained"
            )
        object.__setattr__(self, "psi", round(self.psi, 2))
        if self.noise not in NOISES:
            raise InputError(f"noise {self.noise!r} is unknown", hint=f"use one of {', '.join(NOISES)}")
        if not (self.cluster is None or self.cluster == "nearest" or _is_whole(self.cluster)):
            raise InputError(f"cluster {self.cluster!r} is unknown", hint='use a number, "nearest" or None')
        if isinstance(self.cluster, int) and not 0 <= self.cluster < 10_000:
            raise InputError(f"cluster {self.cluster} is out of range", hint="list them with alis clusters")
        if self.ring is not None and (not _is_whole(self.ring) or not 1 <= self.ring <= MAX_ANCHOR):
            raise InputError(f"ring of {self.ring!r} anchors is out of range", hint="use at least 1")
        if len(self.edits) > MAX_EDITS:
            raise InputError(f"{len(self.edits)} edited anchors are too many", hint=f"edit at most {MAX_EDITS}")
        for index, source in self.edits.items():
            check_anchor(index)
            if not isinstance(source, Draw | SavedCode):
                raise InputError(
                    f"anchor {index}: {source!r} is no scene", hint="give a Draw, a SavedCode, or a variant"
                )
            if self.ring is not None and not 0 <= index < self.ring:
                raise InputError(f"anchor {index} is not on the ring", hint=f"use 0 to {self.ring - 1}")
        # An edit that changes nothing is dropped: each picture has exactly one URL.
        kept = {i: source for i, source in sorted(self.edits.items()) if source != Draw(self.seed, i)}
        object.__setattr__(self, "edits", MappingProxyType(kept))

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[object, ...]:
        return Sketch, (self.seed, dict(self.edits), self.psi, self.cluster, self.noise, self.ring)

    def source(self, index: int) -> Source:
        """The source of an anchor's code: its edit, or the seed's own draw."""
        if self.ring is not None:
            index %= self.ring
        return self.edits.get(index) or Draw(self.seed, index)

    def edited(self, edits: Mapping[int, Source | int]) -> Sketch:
        """The sketch with further anchors edited; an integer means that variant of the draw at the anchor.

        A new edit of an anchor replaces the old one; variant 0 of its own draw removes the edit. On a ring, anchors are
        counted modulo the ring.

        Raises:
            InputError: an anchor out of range, or not a source or variant.
        """
        new: dict[int, Source] = dict(self.edits)
        for index, source in edits.items():
            check_anchor(index)
            if self.ring is not None:
                index %= self.ring
            if isinstance(source, bool):
                raise InputError(f"anchor {index}: {source} is not a variant", hint="give a whole number")
            if isinstance(source, int):
                here = self.source(index)
                drawn = here if isinstance(here, Draw) else Draw(self.seed, index)
                source = replace(drawn, variant=source)
            new[index] = source
        return replace(self, edits=new)

    def closed(self, ring: int) -> Sketch:
        """The same plane closed to a ring of this many anchors."""
        return replace(self, ring=ring, edits={i % ring: source for i, source in self.edits.items()})

    @property
    def edits_text(self) -> str:
        """Everything but the seed as canonical text that is safe in a URL; `-` if all is default."""
        terms = []
        if self.psi != 1:
            terms.append(f"p{round(self.psi * 100)}")
        if self.cluster is not None:
            terms.append("cn" if self.cluster == "nearest" else f"c{self.cluster}")
        if self.noise != "random":
            terms.append(f"n{self.noise[0]}")
        if self.ring is not None:
            terms.append(f"r{self.ring}")
        for index, source in self.edits.items():
            if isinstance(source, SavedCode):
                terms.append(f"a{index}f{source.name}")
            elif (source.seed, source.index) == (self.seed, index):
                terms.append(f"a{index}v{source.variant}")
            else:
                terms.append(f"a{index}s{source.seed}i{source.index}v{source.variant}")
        return "_".join(terms) or "-"

    @property
    def text(self) -> str:
        """The whole sketch as canonical text, `seed/edits`."""
        return f"{self.seed}/{self.edits_text}"

    @classmethod
    def parse(cls, text: str) -> Sketch:
        """Parse a `seed/edits` text.

        Raises:
            InputError: not in the canonical spelling, or a value out of range.
        """
        seed, slash, edits = text.partition("/")
        if not re.fullmatch(r"[0-9]{1,16}", seed) or not slash or len(edits) > 4096:
            raise InputError(f"sketch {text[:60]!r} is not seed/edits", hint="an example is 7/p70_a3v2")
        values: dict[str, object] = {}
        anchors: dict[int, Source] = {}
        for term in [] if edits == "-" else edits.split("_"):
            _read_term(term, int(seed), values, anchors)
        sketch = cls(seed=int(seed), edits=anchors, **values)  # type: ignore[arg-type]
        if sketch.text != text:
            raise InputError(
                f"sketch {text[:60]!r} is not in its canonical spelling", hint=f"write {sketch.text[:200]}"
            )
        return sketch


_TERM = re.compile(
    r"p(?P<psi>[0-9]{1,3})|c(?P<cluster>n|[0-9]{1,4})|n(?P<noise>n|c)|r(?P<ring>[0-9]{1,13})"
    r"|a(?P<at>-?[0-9]{1,13})(?:f(?P<name>[A-Za-z0-9.-]{1,40})"
    r"|(?:s(?P<seed>[0-9]{1,16})i(?P<index>-?[0-9]{1,13}))?v(?P<variant>[0-9]{1,10}))"
)


def _read_term(term: str, seed: int, values: dict[str, object], anchors: dict[int, Source]) -> None:
    """Parse one term of a sketch's text into `values` or `anchors`."""
    found = _TERM.fullmatch(term)
    if not found:
        raise InputError(
            f"sketch term {term[:40]!r} is unknown", hint="terms are p70, cn, c3, nn, nc, r8, a3v2, a3s7i0v0, a3fname"
        )
    got = found.groupdict()
    if got["psi"]:
        values["psi"] = int(got["psi"]) / 100
    elif got["cluster"]:
        values["cluster"] = "nearest" if got["cluster"] == "n" else int(got["cluster"])
    elif got["noise"]:
        values["noise"] = {"n": "none", "c": "const"}[got["noise"]]
    elif got["ring"]:
        values["ring"] = int(got["ring"])
    elif got["name"]:
        anchors[int(got["at"])] = SavedCode(got["name"])
    else:
        at = int(got["at"])
        anchors[at] = Draw(int(got["seed"] or seed), int(got["index"] or at), int(got["variant"]))
