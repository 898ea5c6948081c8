"""Pipeline file + a collection of others → photos in the store, with the papers that the user states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lhq.intake import importing
from lhq.pipeline.file import PipelineFile
from lhq.progress import OnProgress

_OPENERS = {"lsun": importing.lsun, "folder": importing.folder, "zip": importing.archive}


def bring(
    file: PipelineFile,
    kind: Literal["lsun", "folder", "zip"],
    path: str,
    name: str | None,
    stated: Mapping[str, str],
    papers: str | None,
    *,
    allows_unmatched: bool,
    on_progress: OnProgress,
) -> importing.ImportReport:
    """Take a collection in; see `Pipeline.import_photos`. `stated` are the papers of photos that no table names."""
    total, entries = _OPENERS[kind](path)
    known = importing.Papers(stated, importing.read_papers(papers) if papers else {})
    if known.table and not allows_unmatched:
        _, listed = _OPENERS[kind](path)
        known.check([entry for entry, _ in listed])
    return importing.bring(
        entries,
        kind,
        name or Path(path).resolve().stem,
        known,
        file.store,
        file.local,
        on_progress,
        total=total,
        policy=file.policy,
    )
