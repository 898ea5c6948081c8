"""Pipeline → the stages around a dataset: import, export, verify; the CLI calls these."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import lhq.export
import lhq.export.verify
import lhq.intake.rehydrate
import lhq.takedown.erase
import lhq.takedown.recheck
import lhq.takedown.remove
from lhq.config import validate
from lhq.crawl import FRONTIER
from lhq.crawl.frontier import Frontier
from lhq.engines.local import Local
from lhq.errors import RightsRefused
from lhq.export import archives, hub
from lhq.export.render_job import RenderJob
from lhq.http import Client
from lhq.intake import importing
from lhq.intake.rehydrate import RehydrateReport
from lhq.pipeline import MEASURES, SOURCES, Pipeline, build, judging, services
from lhq.rights.licences import Rights
from lhq.store import verdicts
from lhq.store.shards import Shards
from lhq.takedown.recheck import RecheckReport

log = logging.getLogger("lhq")

Told = Callable[[str, int, int], None]
"""Called with (what, done, of) as the work goes on."""


def rights() -> dict[str, Rights]:
    """What each source's terms allow, by the source's name in a photo's papers."""
    return importing.RIGHTS | {name: _rights(module, kind) for name, (module, kind, _) in SOURCES.items()}


def import_photos(
    pipeline: Pipeline,
    kind: str,
    path: str,
    told: Told,
    *,
    name: str | None = None,
    licence: str | None = None,
    author: str | None = None,
    papers: str | None = None,
) -> importing.ImportReport:
    """Take a collection into the pipeline's store; see `lhq.intake.importing`.

    Args:
        kind: `lsun`, `folder` or `zip`.
        name: of the collection; None: its file's.
        papers: a table of papers, photo by photo.

    Raises:
        LhqError: see `importing.bring`.
    """
    openers = {
        "lsun": importing.lsun,
        "folder": importing.folder,
        "zip": importing.archive,
    }
    total, entries = openers[kind](path)
    table = importing.read_papers(papers) if papers else {}
    stated = importing.Papers({"licence": licence or "", "author": author or ""}, table)
    collection = name or Path(path).resolve().stem
    return importing.bring(entries, kind, collection, stated, pipeline.store, pipeline.local, told, total=total)


@dataclass(frozen=True)
class Published:
    """What an export left: its report, the folder of archives and the repository's address ("" if not asked for)."""

    report: lhq.export.ExportReport
    archives: str
    address: str


def export(
    pipeline: Pipeline,
    changes: Mapping[str, object],
    told: Told,
    *,
    format: Literal["parquet", "zip", "webdataset"] = "parquet",
    repository: str = "",
    public: bool = False,
) -> Published:
    """Write the dataset of the pipeline's kept photos; see `lhq.export.export`.

    Args:
        changes: settings of `[export]` to take instead of the file's.
        format: archives to write beside the dataset, if not `parquet`.
        repository: ORG/NAME of the Hub to push to; made private if it is not there, unless `public`.

    Raises:
        RightsRefused: also where a private set is to be pushed.
        LhqError: see `lhq.export.export`, `lhq.export.archives.write`, `lhq.export.hub.push`.
    """
    settings = validate(lhq.export.ExportSettings, {**pipeline.export.model_dump(), **changes}, "lhq export")
    if repository:
        hub.check_name(repository)
        if settings.publish == "private":
            raise RightsRefused(
                f'publish = "private": this set may not be pushed to {repository}',
                hint="give --publish bytes if all licences allow it, or --publish manifest for ids and URLs",
            )
    judged = verdicts.read(pipeline.store) if Shards(pipeline.store, "photos").numbers() else None
    said = verdicts.judged_by(judged) if judged is not None else ""
    if said not in {"", verdicts.word(judging(pipeline))}:
        log.warning(
            "verdicts.parquet was judged by other [filter] settings than %s has now; to judge anew: "
            "lhq filter %s --judge-only",
            pipeline.path,
            pipeline.path,
        )
    # Always this machine's engine: rendered pictures lie on its disk.
    engine = Local(soon="" if settings.publish == "manifest" else RenderJob.__module__)
    report = lhq.export.export(pipeline.store, settings, rights_of=rights(), engine=engine, told=told)
    beside = ""
    if format != "parquet":
        names = {one.variant.name: one.folder for one in report.written}
        beside = archives.write(report.to, names, format, told)
    return Published(report, beside, hub.push(report.to, repository, public=public) if repository else "")


def verify(folder: str, told: Told) -> lhq.export.verify.VerifyReport:
    """Check a dataset's folder with all cores; see `lhq.export.verify.verify`."""
    return lhq.export.verify.verify(folder, engine=Local(), told=told)


def rehydrate(pipeline: Pipeline, manifest: str, told: Told, *, takes_changed: bool) -> RehydrateReport:
    """Fetch a manifest's photos into the pipeline's store; see `lhq.intake.rehydrate.rehydrate`."""
    with services(pipeline) as served:
        client = Client(served.http)
        try:
            return lhq.intake.rehydrate.rehydrate(
                manifest,
                served.store,
                served.local,
                client,
                takes_changed=takes_changed,
                measures=tuple(MEASURES),
                told=told,
            )
        finally:
            client.close()


def remove(pipeline: Pipeline, names: Sequence[str], *, reason: str) -> lhq.takedown.remove.Removed:
    """Take photos down, in the frontier too where a crawl made one; see `lhq.takedown.remove.remove`."""
    done = lhq.takedown.remove.remove(pipeline.store, names, reason=reason)
    place = Path(pipeline.local) / FRONTIER
    if place.exists():
        frontier = Frontier(place)
        try:
            frontier.refuse([*done.new, *done.known], "removed")
        finally:
            frontier.close()
    return done


def erase(pipeline: Pipeline, told: Told) -> lhq.takedown.erase.Erased:
    """Delete what was taken down from the pipeline's store; see `lhq.takedown.erase.erase`."""
    return lhq.takedown.erase.erase(pipeline.store, pipeline.local, told=told)


def recheck(pipeline: Pipeline, told: Told, *, reads_bytes: bool, limit: int | None) -> RecheckReport:
    """What changed at the photos' hosts and sources; see `lhq.takedown.recheck.recheck`."""
    with services(pipeline) as served:
        client = Client(served.http)
        try:
            sources = {name: build(SOURCES, name, settings, client) for name, settings in served.sources.items()}
            return lhq.takedown.recheck.recheck(
                served.store, client, sources, reads_bytes=reads_bytes, limit=limit, told=told
            )
        finally:
            client.close()


def _rights(module: str, kind: str) -> Rights:
    return cast(Rights, getattr(importlib.import_module(module), kind).rights)
