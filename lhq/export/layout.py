"""The published folder: its names, its columns, and each photo's permanent place.

A photo's split and place depend on its id alone (and the seed), never on the other photos. Rows are ordered by a
keyed hash, which shuffles them; shards and row groups are equal slices of the hash's range,
powers of two of them. So a later export with new photos inserts rows and moves none: row groups without a new
photo keep their bytes, and content-defined chunking finds the rest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lhq import nearest
from lhq.errors import ConfigError
from lhq.records import PHOTO_SCHEMA, PUBLISHED_PAPERS

CARD = "README.md"
LICENCES_PAGE = "LICENCES.md"
MANIFEST = "manifest.parquet"
CREDITS = "CREDITS.parquet"
CREDITS_SAMPLE = "CREDITS.md"
CROISSANT = "croissant.json"
PAGES = (CARD, LICENCES_PAGE, MANIFEST, CREDITS, CREDITS_SAMPLE, CROISSANT)
SPLITS = ("train", "validation")

# The Hub's words for how many rows there are. Source: https://github.com/huggingface/hub-docs, datasetcard.md
SIZES = [
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
]
SIZE_CATEGORIES = frozenset({*(word for _, word in SIZES), "n>1T"})

IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
# The columns that describe the published picture; `sha256`, `width_px` … describe the photo as fetched.
PICTURE_FIELDS = [
    pa.field("image_sha256", pa.string(), nullable=False),
    pa.field("image_width_px", pa.int32(), nullable=False),
    pa.field("image_height_px", pa.int32(), nullable=False),
]
# As text: tensor libraries fail on times but leave text alone.
FETCHED_AT = pa.field("fetched_at", pa.string(), nullable=False)
PAPER_FIELDS = [FETCHED_AT if name == "fetched_at" else PHOTO_SCHEMA.field(name) for name in PUBLISHED_PAPERS]
# Names that no measure's column may have: nothing can read a table with two columns of one name.
TAKEN_COLUMNS = frozenset({*PHOTO_SCHEMA.names, *(field.name for field in PICTURE_FIELDS)})
ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}

_VARIANT = re.compile(r"(full|[1-9]\d{0,4})(?:-(jpeg|png|webp))?")
_DATA_FILE = re.compile(r"(train|validation)-(\d{5})-of-(\d{5})\.parquet")


@dataclass(frozen=True, slots=True)
class Variant:
    """One version of the pictures: `full` is the bytes as fetched, `256` the centre square of 256 pixels a side.

    `side_px` is None for `full`; `format` is then "" (as fetched).
    """

    name: str
    side_px: int | None
    format: str

    @property
    def key(self) -> str:
        """Everything that decides this variant's bytes, except quality: equal keys, equal pixels."""
        return "full" if self.side_px is None else f"square-{self.side_px}-{self.format}"


def variant(name: str, default_format: str) -> Variant:
    """`full`, `256`, `1024-png` … as a variant.

    Raises:
        ConfigError: it is not one.
    """
    match = _VARIANT.fullmatch(name)
    if match is None or (match[1] == "full" and match[2]):
        raise ConfigError(
            f'[export]: variants: "{name}" is not a variant',
            hint=nearest.word(name, _known(name), _HINT),
        )
    if match[1] == "full":
        return Variant("full", None, "")
    return Variant(name, int(match[1]), match[2] or default_format)


_HINT = 'give "full" or a side in pixels ("1024", "256"), with a format if it is not the default: "256-png"'


def _known(name: str) -> list[str]:
    """Variants with the given side that may have been meant."""
    side = re.search(r"[1-9]\d{0,4}", name)
    return ["full", *([side[0], *(f"{side[0]}-{format}" for format in ENDINGS)] if side else [])]


def variants(names: Iterable[str], default_format: str) -> list[Variant]:
    """`variant` of each."""
    return [variant(name, default_format) for name in names]


def is_data_folder(name: str) -> bool:
    """Whether an entry of a dataset's folder has the name of a variant's data folder."""
    return name == "data" or (name.startswith("data-") and bool(_VARIANT.fullmatch(name.removeprefix("data-"))))


def folder(variants: list[Variant], one: Variant) -> str:
    """The variant's folder: the first variant is `data`, so that a trainer finds it without configuration."""
    return "data" if one == variants[0] else f"data-{one.name}"


def split(id: str, validation: float) -> str:
    """`train` or `validation`, by a stable hash of the id; a larger `validation` only ever adds to it."""
    draw = int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8, person=b"lhq-split").digest(), "big")
    return "validation" if draw < validation * 2**64 else "train"


def place(id: str, seed: int) -> int:
    """The photo's place in the shuffle: 0 … 2**64 - 1."""
    key = seed.to_bytes(8, "big", signed=True)
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8, key=key, person=b"lhq-order").digest(), "big")


@dataclass(frozen=True, slots=True)
class Grid:
    """How one split of one variant is cut: `num_shards` files of `num_groups` row groups each, powers of two."""

    num_shards: int
    num_groups: int

    def cells(self, places: np.ndarray) -> np.ndarray:
        """For places in the shuffle (uint64 [N]) their cells (int64 [N]): shard * num_groups + row group."""
        bits = (self.num_shards * self.num_groups).bit_length() - 1
        # In two steps: a shift by all 64 bits is undefined.
        return (places >> np.uint64(1) >> np.uint64(63 - bits)).astype(np.int64)


def grid(size_bytes: float, *, shard_bytes: int, group_bytes: int) -> Grid:
    """The grid for about `size_bytes` of pictures: shards of half to one `shard_bytes`, groups likewise."""
    num_shards = _power_of_two(size_bytes / shard_bytes)
    return Grid(num_shards, _power_of_two(size_bytes / num_shards / group_bytes))


def _power_of_two(at_least: float) -> int:
    power = 1
    while power < at_least:
        power *= 2
    return power


def data_file(split: str, number: int, num_shards: int) -> str:
    return f"{split}-{number:05d}-of-{num_shards:05d}.parquet"


def parse_data_file(name: str) -> tuple[str, int, int] | None:
    """(split, number, number of shards) that a file's name says, or None."""
    match = _DATA_FILE.fullmatch(name)
    return None if match is None else (match[1], int(match[2]), int(match[3]))


def row_schema(more: Iterable[pa.Field], facts: dict[str, str]) -> pa.Schema:
    """Columns of a data file: the picture, its papers, then `more` (asked for, and scores). `facts` is further
    key-value metadata.

    The `huggingface` entry tells `datasets` that `image` is a picture, not a struct.
    """
    schema = pa.schema([pa.field("image", IMAGE_TYPE), *PAPER_FIELDS, *PICTURE_FIELDS, *more])
    info = {"info": {"features": {field.name: _feature(field) for field in schema}}}
    return schema.with_metadata({**facts, "huggingface": json.dumps(info)})


def _feature(field: pa.Field) -> dict[str, Any] | list[dict[str, Any]]:
    """The column as `datasets.Features` spells it."""
    if field.type == IMAGE_TYPE:
        return {"_type": "Image"}
    if pa.types.is_list(field.type):
        # Written so, every version of `datasets` reads it; its own word "List" is unknown to those before 4.
        return [{"dtype": value_dtype(field.type.value_type), "_type": "Value"}]
    return {"dtype": value_dtype(field.type), "_type": "Value"}


def value_dtype(kind: pa.DataType) -> str:
    """An Arrow scalar type as `datasets.Value` spells it: `float` is float32, `double` is float64."""
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}, tz={kind.tz}]" if kind.tz else f"timestamp[{kind.unit}]"
    return {"float": "float32", "double": "float64", "halffloat": "float16"}.get(str(kind), str(kind))


def is_score(field: pa.Field) -> bool:
    """Whether a column of facts is a score worth publishing: one figure a photo; no hash, size or embedding."""
    kind = field.type
    is_figure = pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_signed_integer(kind)
    return is_figure and not any(word in field.name for word in ("hash", "pixels", "_px", "seconds", "version"))
