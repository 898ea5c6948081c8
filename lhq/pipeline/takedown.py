"""Pipeline file + ids → photos removed from store and frontier, with a list of remaining copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lhq.crawl
import lhq.export
import lhq.takedown.remove
from lhq.crawl.frontier import Frontier
from lhq.measures.duplicates import DuplicatesSettings
from lhq.pipeline.file import PipelineFile
from lhq.store import copies
from lhq.takedown.near_duplicates import NearDuplicates, near_duplicates
from lhq.takedown.remaining_copies import remaining_copies
from lhq.takedown.remove import RemoveReport


def versions(file: PipelineFile, names: Sequence[str]) -> NearDuplicates:
    """The near-duplicates of the photos in `names`, by the settings of `[filter.duplicates]`."""
    settings = file.filters.get("duplicates")
    known = settings if isinstance(settings, DuplicatesSettings) else DuplicatesSettings.model_validate({})
    return near_duplicates(file.store, lhq.takedown.remove.ids_of(file.store, names), known)


def remove(file: PipelineFile, names: Sequence[str], *, reason: str, takes_duplicates: bool) -> RemoveReport:
    """Take photos down; see `Pipeline.remove`."""
    copies.read(file.local)  # before anything changes: without it, the list at the end would lack places
    found = versions(file, names)
    done = lhq.takedown.remove.remove(file.store, names, reason=reason)
    gone = [*done.new, *done.known]
    if takes_duplicates:
        gone += found.of
        for id, of in found.of.items():
            lhq.takedown.remove.remove(file.store, [id], reason="; ".join(filter(None, (of, reason))))
    _refuse(file, gone)
    is_here = bool(file.export.to) or "://" not in file.store
    target = lhq.export.target(file.store, file.export) if is_here else ""
    return replace(
        done,
        duplicates=found.of,
        are_taken=takes_duplicates,
        num_unmeasured=found.num_unmeasured,
        copies=tuple(remaining_copies(file.local, target, gone, str(file.path))),
    )


def _refuse(file: PipelineFile, ids: Sequence[str]) -> None:
    """Tell the frontier, if there is one, so that none of them is fetched again."""
    place = Path(file.local) / lhq.crawl.FRONTIER
    if place.exists():
        frontier = Frontier(place)
        try:
            frontier.refuse(ids, "removed")
        finally:
            frontier.close()
