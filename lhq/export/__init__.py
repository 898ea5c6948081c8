"""Kept photos → rows: the join of photos and verdicts, published as Parquet that `datasets` loads as it is.

The folder is built as `DIR.part` and renamed when complete; until then an earlier export stays untouched. After an
interruption, run the same command again: finished shards and rendered pictures are recognised by their fingerprints.
The same inputs give the same bytes, file for file.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq.engines import Engine
from lhq.errors import ConfigError, InputError, RightsRefused
from lhq.export import card, credits, croissant, layout, manifest, ownership, work
from lhq.export.layout import Variant
from lhq.export.previous import manifest_ids
from lhq.export.refill import Refilled, refilled
from lhq.export.render import Encoding
from lhq.export.rows import Rows, kept_rows
from lhq.export.settings import ExportSettings
from lhq.export.shard_writer import Assembly, Cut, Places, Written
from lhq.progress import OnProgress, silent
from lhq.rights import rules
from lhq.rights.licences import Rights
from lhq.rights.policy import Policy
from lhq.store import marker, tombstones
from lhq.store.atomic_file import delete_partial_files
from lhq.store.atomic_folder import AtomicFolder

__all__ = ["ExportReport", "ExportSettings", "export", "target"]

_MB = 10**6


@dataclass
class ExportReport:
    """What an export wrote: `num_rows` of `num_kept` photos.

    `funnel` counts the photos that were not kept, `skipped` the kept ones left out on purpose: reason → rows.
    `notes` report variants that were left out (without rows). `is_withdrawn`: the last photos were taken down,
    nothing is left to publish, and the earlier export is deleted.
    """

    to: str
    funnel: dict[str, int]
    num_kept: int
    num_rows: int = 0
    written: list[Written] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_withdrawn: bool = False


@dataclass(frozen=True)
class _Job:
    """The inputs of one export."""

    store: str
    settings: ExportSettings
    rights_of: Mapping[str, Rights]
    place: AtomicFolder
    report: ExportReport


def export(
    store: str,
    settings: ExportSettings,
    *,
    rights_of: Mapping[str, Rights],
    engine: Engine,
    policy: Policy | None = None,
    on_progress: OnProgress = silent,
) -> ExportReport:
    """Write the dataset of a store's kept photos.

    Args:
        rights_of: source → what its terms allow.
        engine: runs the rendering.
        policy: which reservations bind, who is denied, what was permitted; None: every reservation binds.

    Raises:
        InputError: no verdicts yet, nothing kept, or a file that lhq did not write is in the way.
        RightsRefused: rows without papers, or bytes that may not be redistributed.
        StoreError: the target can't be written.
        RunError: a shard of the store could not be read; the others are rendered already.
    """
    place = ownership.dataset(target(store, settings))
    variants = [] if settings.publish == "manifest" else layout.variants(settings.variants, settings.format)
    place.check({*layout.PAGES, *(layout.folder(variants, one) for one in variants)})
    place.recover()
    rows = kept_rows(
        store,
        seed=settings.seed,
        validation=settings.validation,
        extra=settings.extra_columns(),
        permissions=policy.permissions if policy else {},
        none_left=_holds_removed(place, store),
    )
    report = ExportReport(place.path, dict(rows.funnel), len(rows.table))
    job = _Job(store, settings, rights_of, place, report)
    _refuse_other(job, rows)
    if not len(rows.table):
        return _withdrawn(job)
    table = _allowed(job, rows.table, policy or Policy())
    living = _living(job, table)
    table = living.table if living else table
    with place.building() as part:
        _forget_debris(part)
        report.written = _variants(job, table, rows, variants, engine, on_progress)
        _forget_variants(part, {written.folder for written in report.written})
        table = _published(table, report.written)
        report.num_rows = len(table)
        manifest.write(part, table, _report_gaps(job, living, table) if living else {})
        credits.write(part, table, report.written)
        croissant.write(part, table, rows, settings, report.written)
        card.write(part, card.Facts(table, rows, settings, report.written, rights_of, report.skipped))
        work.forget_all(os.path.join(part, ownership.WORK))
        place.commit(_files(part, report.written))
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


def _refuse_other(job: _Job, rows: Rows) -> None:
    ids = manifest_ids(job.place.path)
    known = pa.concat_arrays([rows.all_ids, pa.array(sorted(tombstones.removed_ids(job.store)), pa.string())])
    if ids is not None and len(ids) and not pc.any(pc.is_in(ids, known)).as_py():
        raise InputError(
            f"{job.place.path}: holds a dataset that shares no photo with this store",
            hint="give another folder, or remove that one",
        )


def _holds_removed(place: AtomicFolder, store: str) -> bool:
    """Whether the earlier export holds a photo that has since been taken down. Erased photos are no longer in any
    shard."""
    ids = manifest_ids(place.path)
    removed = pa.array(sorted(tombstones.removed_ids(store)), pa.string())
    return ids is not None and bool(pc.any(pc.is_in(ids, removed)).as_py())


def _withdrawn(job: _Job) -> ExportReport:
    """Delete the earlier export, whose last photos were taken down."""
    job.report.is_withdrawn = job.place.withdraw()
    for kind in ("zip", "webdataset"):
        archives = ownership.archives(f"{job.place.path}-{kind}")
        job.report.is_withdrawn |= archives.withdraw()
    return job.report


def _allowed(job: _Job, table: pa.Table, policy: Policy) -> pa.Table:
    """The rows that these settings may publish: reservations and the deny list first, then papers, licences, terms."""
    keep, why = policy.allowed_rows(table)
    job.report.skipped.update(why)
    table = table.filter(pa.array(keep))
    if not len(table):
        said = " · ".join(f"{reason} {count:,}" for reason, count in why.most_common())
        raise RightsRefused(
            f"none of {len(keep):,} kept photos may be published ({said})", hint="see lhq rights, then crawl on"
        )
    rules.check_papers(table, job.rights_of)
    words = job.settings.licences
    if words:
        keep = rules.subset(table, job.rights_of, words)
        said = " ".join(words)
        if not keep.any():
            raise RightsRefused(
                f"licences {said}: none of {len(table):,} kept photos", hint="ask for less, or crawl on"
            )
        if not keep.all():
            job.report.skipped[f"licence is not {said}"] = int((~keep).sum())
        table = table.filter(pa.array(keep))
    if job.settings.publish == "bytes":
        rules.check_publishing(table, job.rights_of)
    return table


def _living(job: _Job, table: pa.Table) -> Refilled | None:
    """The rows of a refilled set; None if the export takes all rows.

    Raises:
        RightsRefused: no row of the earlier export may still be published, and no other photo is of the same kind.
    """
    if not job.settings.refill:
        return None
    found = refilled(job.place.path, table)
    if found is None:
        job.report.notes.append(f"nothing to refill: {job.place.path} holds no dataset yet, so all rows are taken")
        return None
    if not len(found.table):
        raise RightsRefused(
            f"{job.place.path}: none of its photos may be published any longer, and no other is of the same kind",
            hint="export without --refill to take all rows, or crawl on",
        )
    if reserve := len(table) - len(found.table):
        job.report.skipped["held in reserve by --refill"] = reserve
    return found


def _report_gaps(job: _Job, living: Refilled, table: pa.Table) -> dict[str, str]:
    """Report which gaps were filled and which stay open; returns what the manifest records of them."""
    ids = table["id"].to_pylist()
    still = living.open_after(ids)
    num_filled = len(living.filled & set(ids))
    job.report.notes.append(f"gaps filled {num_filled:,} · open {len(still):,}")
    job.report.notes += [f"  open: {count:,} of {kind}" for kind, count in Counter(map(str, still)).most_common()]
    return living.metadata(ids)


def _variants(
    job: _Job, table: pa.Table, rows: Rows, variants: list[Variant], engine: Engine, on_progress: OnProgress
) -> list[Written]:
    """Write every variant that has rows; one without is skipped with a note, since no loader accepts an empty one.

    Raises:
        InputError: none of them has a row.
    """
    settings, written = job.settings, []
    cut = Cut(round(settings.shard_mb * _MB), round(settings.row_group_mb * _MB))
    for one in variants:
        folder = layout.folder(variants, one)
        places = Places(job.store, job.place.part, job.place.path, folder, _work(job, one, engine))
        mine = _adaptable(job, table, one)
        done = Assembly(places, mine, rows.columns, Encoding.of(one, settings.quality, settings.metadata), cut)
        found = done.write(engine, on_progress)
        if sum(found.rows.values()):
            written.append(found)
            continue
        why = f"{len(found.failed):,} photos could not be rendered" if found.failed else "no licence allows it"
        job.report.notes.append(f"variant {one.name} is left out: it would have no rows ({why})")
        job.report.skipped.update({f"{one.name}: {why}": len(found.failed)} if found.failed else {})
    if variants and not written:
        raise InputError(
            f"{job.place.path}: no row to write: {'; '.join(job.report.notes)}", hint="give other variants"
        )
    return written


def _work(job: _Job, one: Variant, engine: Engine) -> work.Work:
    """Where a variant's pictures are rendered to: beside the unfinished dataset, or in the store, if the workers may be
    on other machines."""
    if engine.shares_disk:
        return work.Work(os.path.join(job.place.part, ownership.WORK, one.name))
    to = hashlib.sha256(job.place.path.encode()).hexdigest()[:12]
    return work.Work(f"{job.store}/rendering-{to}-{one.name}")


def _adaptable(job: _Job, table: pa.Table, one: Variant) -> pa.Table:
    """The rows of one variant: a licence without derivatives keeps its photos out of published crops."""
    if one.side_px is None or job.settings.publish != "bytes":
        return table
    keep = rules.evaluate(table, job.rights_of, rules.may_adapt)
    if not keep.all():
        job.report.skipped[f"{one.name}: licence forbids derivatives"] = int((~keep).sum())
    return table.filter(pa.array(keep))


def _published(table: pa.Table, written: list[Written]) -> pa.Table:
    """Rows that are in at least one variant; all rows if no bytes are published."""
    if not written:
        return table
    out = np.zeros(len(table), bool)
    for one in written:
        out |= pc.is_in(table["id"], one.ids).to_numpy()
    return table.filter(pa.array(out))


def _forget_debris(part: str) -> None:
    """Delete the partial pages and data files of a killed export."""
    delete_partial_files(part)
    for name in os.listdir(part):
        if layout.is_data_folder(name) and os.path.isdir(folder := os.path.join(part, name)):
            delete_partial_files(folder)


def _forget_variants(part: str, folders: set[str]) -> None:
    """Delete data files that an interrupted export left for variants that this one does not have."""
    for name in os.listdir(part):
        if layout.is_data_folder(name) and name not in folders:
            inner = os.path.join(part, name)
            ours = [one for one in os.listdir(inner) if ownership.has_fingerprint(os.path.join(inner, one))]
            marker.delete(inner, frozenset(ours))


def _files(part: str, written: list[Written]) -> list[str]:
    """Relative paths of what this export wrote."""
    data = [f"{one.folder}/{name}" for one in written for name in os.listdir(os.path.join(part, one.folder))]
    return [*layout.PAGES, *data]
