"""Kept photos → rows: the join of photos and verdicts, published as Parquet that `datasets` loads as it is.

The folder is written beside its place (`DIR.part`) and takes its name when it is whole; until then an earlier
export stays as it is. To go on after an interruption, run the same command again: finished shards and
rendered pictures are found by what made them. The same inputs give the same bytes, file for file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq.config import Settings
from lhq.engines import Engine
from lhq.errors import ConfigError, InputError, RightsRefused
from lhq.export import card, credits, croissant, layout, manifest
from lhq.export.layout import Variant
from lhq.export.previous import manifest_ids
from lhq.export.rows import Rows, kept_rows
from lhq.export.shard_writer import Assembly, Written
from lhq.progress import OnProgress, silent
from lhq.rights import rules
from lhq.rights.licences import Rights
from lhq.store.folders import aside, put_back, put_in_place
from lhq.store.shards import forget_debris

_MB = 10**6


class ExportSettings(Settings):
    """`[export]`: what is published, and how."""

    to: str = ""
    """Folder of the dataset; empty: `export` inside the store."""
    name: str = "Landscapes"
    """The dataset's name on its card."""
    variants: tuple[str, ...] = pydantic.Field(("1024",), min_length=1)
    """`full` (bytes as fetched) or the side of the centre square in pixels, with a format if it is not `format`:
    `256-png`. The first is the default one and lies in `data`."""
    format: Literal["jpeg", "png", "webp"] = "jpeg"
    quality: int = pydantic.Field(95, ge=1, le=100)
    """Of JPEG and WebP."""
    validation: float = pydantic.Field(0.01, ge=0, lt=1)
    """Share of photos in the validation split, drawn by a stable hash of the id."""
    publish: Literal["bytes", "manifest", "private"] = "private"
    licences: tuple[str, ...] = ()
    """Subset by licence: `commercial-ok`, `derivatives-ok`, `redistributable`, `public-domain`, `no-share-alike`, or
    licence ids and patterns of them (`cc-by-*`)."""
    seed: int = 0
    """Of the shuffle."""
    shard_mb: float = pydantic.Field(500, gt=0)
    row_group_mb: float = pydantic.Field(64, gt=0)

    # A mistake here must not come to light after two weeks of crawling.
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


@dataclass
class ExportReport:
    """What an export wrote: `num_rows` of `num_kept` photos.

    `funnel` counts the photos that were not kept, `skipped` the kept ones left out on purpose: reason → rows.
    """

    to: str
    funnel: dict[str, int]
    num_kept: int
    num_rows: int = 0
    written: list[Written] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def export(
    store: str,
    settings: ExportSettings,
    *,
    rights_of: Mapping[str, Rights],
    engine: Engine,
    on_progress: OnProgress = silent,
) -> ExportReport:
    """Write the dataset of a store's kept photos.

    Args:
        rights_of: source → what its terms allow.
        engine: runs the rendering.

    Raises:
        InputError: no verdicts yet, nothing kept, or the target holds something else.
        RightsRefused: rows without papers, or bytes that may not be handed on.
        StoreError: the target can't be written.
        RunError: a shard of the store could not be read; the others are rendered already.
    """
    to = target(store, settings)
    variants = [layout.variant(name, settings.format) for name in settings.variants]
    put_back(to)
    rows = kept_rows(store, seed=settings.seed, validation=settings.validation)
    _refuse_other(to, rows)
    rules.check_papers(rows.table, rights_of)
    report = ExportReport(to, dict(rows.funnel), len(rows.table))
    table = _subset(rows.table, settings, rights_of, report)
    if settings.publish == "bytes":
        rules.check_publishing(table, rights_of)
    with aside(to) as part:
        forget_debris(part)
        if settings.publish == "manifest":
            variants = []
        for one in variants:
            report.written.append(
                Assembly(
                    store,
                    _adaptable(table, one, settings, rights_of, report),
                    rows.scores,
                    one,
                    settings.quality,
                    aside=part,
                    to=to,
                    folder=layout.folder(variants, one),
                    shard_bytes=round(settings.shard_mb * _MB),
                    group_bytes=round(settings.row_group_mb * _MB),
                ).write(engine, on_progress)
            )
        _forget_variants(part, {written.folder for written in report.written})
        table = _published(table, report.written)
        report.num_rows = len(table)
        manifest.write(part, table)
        credits.write(part, table, variants)
        croissant.write(part, table, rows, settings.name, report.written)
        card.write(part, table, rows, settings.name, settings.publish, report.written, rights_of)
        shutil.rmtree(os.path.join(part, ".work"), ignore_errors=True)
        put_in_place(to, layout.is_ours)
    return report


def target(store: str, settings: ExportSettings) -> str:
    """The folder that an export with these settings writes.

    Raises:
        ConfigError: it would lie in a remote store.
    """
    if not settings.to and "://" in store:
        raise ConfigError(f"[export]: the store {store} is remote", hint='give a local folder: to = "data/export"')
    if "://" in settings.to:
        raise ConfigError(
            f'[export]: to = "{settings.to}" is remote', hint="give a local folder, then --push-to-hub or copy it"
        )
    return os.path.abspath(os.path.expanduser(settings.to)) if settings.to else os.path.join(store, "export")


def _refuse_other(to: str, rows: Rows) -> None:
    ids = manifest_ids(to)
    if ids is not None and len(ids) and not pc.any(pc.is_in(ids, rows.all_ids)).as_py():
        raise InputError(
            f"{to}: holds a dataset that shares no photo with this store",
            hint="give another folder, or remove that one",
        )


def _subset(
    table: pa.Table, settings: ExportSettings, rights_of: Mapping[str, Rights], report: ExportReport
) -> pa.Table:
    if not settings.licences:
        return table
    keep = rules.subset(table, rights_of, settings.licences)
    words = " ".join(settings.licences)
    if not keep.any():
        raise RightsRefused(f"licences {words}: none of {len(table):,} kept photos", hint="ask for less, or crawl on")
    if not keep.all():
        report.skipped[f"licence is not {words}"] = int((~keep).sum())
    return table.filter(pa.array(keep))


def _adaptable(
    table: pa.Table, one: Variant, settings: ExportSettings, rights_of: Mapping[str, Rights], report: ExportReport
) -> pa.Table:
    """The rows of one variant: a licence without derivatives keeps its photos out of published crops."""
    if one.side_px is None or settings.publish != "bytes":
        return table
    keep = rules.ruled(table, rights_of, rules.may_adapt)
    if not keep.all():
        report.skipped[f"{one.name}: licence forbids derivatives"] = int((~keep).sum())
    return table.filter(pa.array(keep))


def _published(table: pa.Table, written: list[Written]) -> pa.Table:
    """Rows that stand in at least one variant; all of them where no bytes are published."""
    if not written:
        return table
    out = np.zeros(len(table), bool)
    for one in written:
        out |= pc.is_in(table["id"], one.ids).to_numpy()
    return table.filter(pa.array(out))


def _forget_variants(part: str, folders: set[str]) -> None:
    for name in os.listdir(part):
        if name.startswith("data") and name not in folders:
            shutil.rmtree(os.path.join(part, name))
