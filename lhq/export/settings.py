"""`[export]`: what is published, and how."""

from __future__ import annotations

import re
from typing import Literal

import pydantic

from lhq.config import PathSetting, Settings
from lhq.errors import ConfigError
from lhq.export import layout
from lhq.rights import rules

EXTRAS = {
    "place": ("latitude", "longitude"),
    "camera": ("camera",),
    "embedding": ("outliers_embedding",),
}
"""Word of `columns` → the columns that it adds to every row."""
_OF_A_MEASURE = re.compile(r"[A-Za-z0-9]+_[A-Za-z_][A-Za-z0-9_]*")


class ExportSettings(Settings):
    """`[export]`: what is published, and how."""

    to: PathSetting = ""
    """Folder of the dataset; empty: `export` inside the store."""
    name: str = "Landscapes"
    """The dataset's name on its card."""
    variants: tuple[str, ...] = pydantic.Field(("1024",), min_length=1)
    """`full` (the picture as fetched) or the side of the centre square in pixels, with a format if it is not `format`:
    `256-png`. The first is the default and goes to `data`."""
    format: Literal["jpeg", "png", "webp"] = "jpeg"
    """Of squares whose variant does not name one: "256" is JPEG, "256-png" PNG."""
    quality: int = pydantic.Field(95, ge=1, le=100)
    """Of JPEG and WebP."""
    validation: float = pydantic.Field(0.01, ge=0, lt=1)
    """Share of photos in the validation split, drawn by a stable hash of the id."""
    publish: Literal["bytes", "manifest", "private"] = "private"
    """What may leave: bytes, manifest (ids and addresses), or private (nothing)."""
    licences: tuple[str, ...] = ()
    """Subset by licence: `commercial-ok`, `derivatives-ok`, `redistributable`, `public-domain`, `no-share-alike`, or
    licence ids and patterns of them (`cc-by-*`)."""
    columns: tuple[str, ...] = ()
    """Columns besides papers and scores: `place` (where it was taken), `camera`, `embedding` (of the measure
    `outliers`, where its settings keep it), or `MEASURE_COLUMN` of facts (`captions_caption`)."""
    metadata: Literal["strip", "keep"] = "strip"
    """EXIF, XMP and IPTC in `full`: "strip" removes locations, names and serial numbers without touching a pixel,
    "keep" keeps them, and the card says so. Squares never have any."""
    refill: bool = False
    """Keep the rows of the earlier export, and use other photos only to replace those that may no longer be
    published: the best of the same source, licence, split and query."""
    seed: int = 0
    """Of the shuffle."""
    shard_mb: float = pydantic.Field(500, gt=0)
    """Approximate size of a data file."""
    row_group_mb: float = pydantic.Field(64, gt=0)
    """Approximate size of a row group, which a reader holds in memory at once."""

    # A mistake here must not surface after two weeks of crawling.
    @pydantic.field_validator("variants")
    @classmethod
    def _are_variants(cls, variants: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = [layout.variant(name, "jpeg").name for name in variants]
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("[export]: variants: ")) from None
        if len(set(names)) < len(names):
            raise ValueError("one is named twice")
        return variants

    @pydantic.field_validator("licences")
    @classmethod
    def _are_subsets(cls, licences: tuple[str, ...]) -> tuple[str, ...]:
        try:
            rules.check_words(licences)
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("licences: ")) from None
        return licences

    @pydantic.field_validator("columns")
    @classmethod
    def _are_columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for name in columns:
            if name not in EXTRAS and not _OF_A_MEASURE.fullmatch(name):
                raise ValueError(f'"{name}" is none; known: {", ".join(EXTRAS)}, and MEASURE_COLUMN of facts')
        return columns

    def extra_columns(self) -> tuple[str, ...]:
        """The names of the columns that `columns` asks for."""
        known = [column for word in EXTRAS if word in self.columns for column in EXTRAS[word]]
        return tuple(dict.fromkeys([*known, *(word for word in self.columns if word not in EXTRAS)]))
