"""Pipeline → the stages around a dataset: import, export, verify; the CLI calls these."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import lhq.export
import lhq.importing
import lhq.recheck
import lhq.rehydrate
import lhq.verify
from lhq.config import validate
from lhq.engines.local import Local
from lhq.http import Client
from lhq.licences import Rights
from lhq.pipeline import MEASURES, SOURCES, Pipeline, build, services
from lhq.recheck import RecheckReport
from lhq.rehydrate import RehydrateReport

Told = Callable[[str, int, int], None]
"""Called with (what, done, of) as the work goes on."""


def rights() -> dict[str, Rights]:
    """What each source's terms allow, by the source's name in a photo's papers."""
    return lhq.importing.RIGHTS | {name: _rights(module, kind) for name, (module, kind, _) in SOURCES.items()}


def import_photos(
    pipeline: Pipeline, kind: str, path: str, told: Told, *,
    name: str | None = None, licence: str | None = None, author: str | None = None, papers: str | None = None,
) -> lhq.importing.ImportReport:  # fmt: skip
    """Take a collection into the pipeline's store; see `lhq.importing`.

    Args:
        kind: `lsun`, `folder` or `zip`.
        name: of the collection; None: its file's.
        papers: a table of papers, photo by photo.

    Raises:
        LhqError: see `lhq.importing.bring`.
    """
    openers = {"lsun": lhq.importing.lsun, "folder": lhq.importing.folder, "zip": lhq.importing.archive}
    total, entries = openers[kind](path)
    table = lhq.importing.read_papers(papers) if papers else {}
    stated = lhq.importing.Papers({"licence": licence or "", "author": author or ""}, table)
    collection = name or Path(path).resolve().stem
    return lhq.importing.bring(entries, kind, collection, stated, pipeline.store, pipeline.local, told, total=total)


def export(pipeline: Pipeline, changes: Mapping[str, object], told: Told) -> lhq.export.ExportReport:
    """Write the dataset of the pipeline's kept photos.

    Args:
        changes: settings of `[export]` to take instead of the file's.
        told: called with (what, done, of) as the work goes on.

    Raises:
        LhqError: see `lhq.export.export`.
    """
    settings = validate(lhq.export.ExportSettings, {**pipeline.export.model_dump(), **changes}, "lhq export")
    # Always this machine's engine: rendered pictures lie on its disk.
    return lhq.export.export(pipeline.store, settings, rights_of=rights(), engine=Local(), told=told)


def verify(folder: str, told: Told) -> lhq.verify.VerifyReport:
    """Check a dataset's folder with all cores; see `lhq.verify.verify`."""
    return lhq.verify.verify(folder, engine=Local(), told=told)


def rehydrate(pipeline: Pipeline, manifest: str, told: Told, *, takes_changed: bool) -> RehydrateReport:
    """Fetch a manifest's photos into the pipeline's store; see `lhq.rehydrate.rehydrate`."""
    with services(pipeline) as served:
        client = Client(served.http)
        try:
            return lhq.rehydrate.rehydrate(
                manifest, served.store, served.local, client,
                takes_changed=takes_changed, measures=tuple(MEASURES), told=told,
            )  # fmt: skip
        finally:
            client.close()


def recheck(pipeline: Pipeline, told: Told, *, reads_bytes: bool, limit: int | None) -> RecheckReport:
    """What changed at the photos' hosts and sources; see `lhq.recheck.recheck`."""
    with services(pipeline) as served:
        client = Client(served.http)
        try:
            sources = {name: build(SOURCES, name, settings, client) for name, settings in served.sources.items()}
            return lhq.recheck.recheck(served.store, client, sources, reads_bytes=reads_bytes, limit=limit, told=told)
        finally:
            client.close()


def _rights(module: str, kind: str) -> Rights:
    return cast(Rights, getattr(importlib.import_module(module), kind).rights)
