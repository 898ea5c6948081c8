"""Pipeline file → a dataset's folder, archives, a repository on the Hub; each copy is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import lhq.export
from lhq.engines import Engine
from lhq.errors import RightsRefused
from lhq.export import ExportReport, ExportSettings, archives, hub
from lhq.pipeline.file import PipelineFile
from lhq.pipeline.registry import SourceRights
from lhq.progress import OnProgress
from lhq.store import copies
from lhq.store.copies import Copy


@dataclass(frozen=True)
class Exported:
    """The results of an export: its report, the folder of archives and the repository's address ("" if not
    requested)."""

    report: ExportReport
    archives: str
    address: str


@dataclass(frozen=True)
class Push:
    """Where to push a dataset: ORG/NAME on the Hub, "" for nowhere. A new repository is private unless `public`."""

    repository: str
    public: bool = False


def check_push(settings: ExportSettings, repository: str) -> None:
    """Check that a set may be pushed, before any work starts.

    Raises:
        InputError: `repository` is not a name.
        RightsRefused: the set is private.
    """
    hub.check_name(repository)
    if settings.publish == "private":
        raise RightsRefused(
            f'publish = "private": this set may not be pushed to {repository}',
            hint="give --publish bytes if all licences allow it, or --publish manifest for ids and URLs",
        )


def export(
    file: PipelineFile,
    settings: ExportSettings,
    engine: Engine,
    format: Literal["parquet", "zip", "webdataset"],
    push: Push,
    on_progress: OnProgress,
) -> Exported:
    """Write the dataset; see `Pipeline.export`."""
    copies.read(file.local)  # what can't be recorded is not written
    report = lhq.export.export(
        file.store, settings, rights_of=SourceRights(), engine=engine, policy=file.policy, on_progress=on_progress
    )
    if not report.num_rows:
        return Exported(report, "", "")
    copies.record(file.local, Copy("dataset", report.to))
    beside = ""
    if format != "parquet":
        names = {one.variant.name: one.folder for one in report.written}
        beside = archives.write(report.to, names, format, on_progress)
        copies.record(file.local, Copy("archives", beside))
    return Exported(report, beside, _push(file, report.to, push) if push.repository else "")


def _push(file: PipelineFile, folder: str, push: Push) -> str:
    done = hub.push(folder, push.repository, public=push.public)
    copies.record(file.local, Copy("repository", push.repository, files=done.files))
    return done.address
