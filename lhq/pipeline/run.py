"""Pipeline file → stages: what each stage is given, and nothing else.

pipeline = lhq.load("pipelines/quickstart.toml")
pipeline.crawl()
pipeline.filter()
dataset = pipeline.export()
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import fsspec

import lhq.crawl
import lhq.crawl.plan
import lhq.crawl.status
import lhq.export
import lhq.export.verify
import lhq.filter
import lhq.intake.rehydrate
import lhq.report
import lhq.report.show
import lhq.takedown.erase
import lhq.takedown.recheck
import lhq.takedown.remove
from lhq.config import validate
from lhq.crawl.frontier import Frontier, Listed
from lhq.engines import Engine
from lhq.engines.local import Local
from lhq.errors import ConfigError, InputError, RightsRefused, StoreError, UserError
from lhq.export import archives, hub
from lhq.export.render_job import RenderJob
from lhq.filter import Rule
from lhq.images import allow
from lhq.intake import importing
from lhq.measures import MeasureSettings
from lhq.pipeline.file import PipelineFile, read
from lhq.pipeline.registry import ENGINES, MEASURES, SOURCES, SourceRights, open_measure
from lhq.pipeline.services import obstacles, services
from lhq.progress import OnProgress, silent
from lhq.store import copies, verdicts
from lhq.store.copies import Copy
from lhq.store.lock import locked
from lhq.store.shards import Shards, write_whole

log = logging.getLogger("lhq")


@dataclass(frozen=True)
class Exported:
    """What an export left: its report, the folder of archives and the repository's address ("" if not asked for)."""

    report: lhq.export.ExportReport
    archives: str
    address: str


def load(path: str | os.PathLike[str]) -> Pipeline:
    """A pipeline file, read and checked.

    Raises:
        ConfigError: names file, table, key and next move.
    """
    allow((file := read(path)).http.max_pixels)  # whatever this process and its workers decode from here on
    return Pipeline(file)


def verify(
    folder: str, *, engine: str = "local", address: str = "", on_progress: OnProgress = silent
) -> lhq.export.verify.VerifyReport:
    """Check a dataset's folder with all cores, or by a cluster; see `lhq.export.verify.verify`."""
    hands = open_engine(engine, 0, address)
    return lhq.export.verify.verify(folder, engine=hands, on_progress=on_progress)


def open_engine(name: str, workers: int, address: str) -> Engine:
    """The engine of a name that `ENGINES` knows.

    Raises:
        ConfigError: nobody knows it, or it takes no address.
    """
    engine: Engine = ENGINES.load(name, "engine")(workers, address=address)
    return engine


@dataclass(frozen=True)
class Pipeline:
    """The stages of one pipeline file; each goes on where an earlier run of it was stopped."""

    file: PipelineFile

    # --- crawl ------------------------------------------------------------------------------------------------------

    def crawl(
        self, *, retry: Sequence[str] = (), want: int | None = None, on_progress: OnProgress = silent
    ) -> lhq.crawl.CrawlReport:
        """Fetch photos until the store holds as many as wanted.

        Args:
            retry: reasons of failed candidates to try again; "all" for every reason.
            want: photos to keep in all, instead of the file's.

        Raises:
            ConfigError: the file names no source.
            StoreError: another crawl is at work on the store.
            KeyMissing: a source's key or permission is not there.
            SourceError: no source offered anything.
        """
        self._need_source()
        file = self.file
        with lhq.crawl.locked(file.local), services(file) as served:
            job = lhq.crawl.CrawlJob(
                file.store,
                file.local,
                served.sources(),
                file.queries,
                want or file.want,
                retry=retry,
                planned=self._planned(want),
            )
            return lhq.crawl.crawl(job, served.client, on_progress=on_progress)

    def plan(self, *, want: int | None = None) -> lhq.crawl.plan.Plan:
        """What a crawl will cost; nobody is asked, no key is needed (`obstacles` says what else is).

        Raises:
            ConfigError: the file names no source.
        """
        self._need_source()
        try:
            num_kept = lhq.crawl.status.status(self.file.store, self.file.local, 1).num_kept
        except StoreError:
            num_kept = 0  # no crawl was started here
        sources = {name: (SOURCES.load(name).limits, settings) for name, settings in self.file.sources.items()}
        seen = lhq.crawl.status.seen(self.file.store, self.file.local)
        return lhq.crawl.plan.plan(want or self.file.want, num_kept, len(self.file.queries), sources, seen)

    def _planned(self, want: int | None) -> dict[str, object]:
        seen = lhq.crawl.status.seen(self.file.store, self.file.local)
        return {**self.plan(want=want).as_json(), "kept_bytes": sum(seen.size_bytes.values())}

    def obstacles(self) -> list[UserError]:
        """What would keep a crawl from asking anybody: a key, permission, contact or folder that is missing."""
        return obstacles(self.file)

    def free_bytes(self) -> int:
        """Space left on the disk that holds frontier and spool, there already or not."""
        place = Path(self.file.local)
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def status(self) -> lhq.crawl.status.Status:
        """The funnel of the store; see `lhq.crawl.status.status`."""
        return lhq.crawl.status.status(self.file.store, self.file.local, self.file.want)

    def candidates(
        self, *, statuses: Sequence[str] = (), reasons: Sequence[str] = (), sources: Sequence[str] = ()
    ) -> Iterator[Listed]:
        """The store's candidates, narrowed by what is given; see `lhq.crawl.status.listing`."""
        return lhq.crawl.status.listing(self.file.store, self.file.local, statuses, reasons, sources)

    def _need_source(self) -> None:
        if not self.file.sources:
            hint = f"add [source.NAME]: {', '.join(SOURCES.names())}"
            raise ConfigError(f"{self.file.path}: no source to crawl", hint=hint)

    # --- filter -----------------------------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        """The `[filter.<name>]` tables as rules, in file order."""
        allow(self.file.http.max_pixels)
        return [Rule(open_measure(name, settings), settings) for name, settings in self._judgement().items()]

    def filter(
        self,
        *,
        judge_only: bool = False,
        workers: int = 0,
        engine: str = "",
        address: str = "",
        on_progress: OnProgress = silent,
    ) -> lhq.filter.Filtered:
        """Measure what was not measured, judge all of it, and write `verdicts.parquet`; see `lhq.filter.run`.

        Args:
            workers: processes for measures without a GPU; 0: one a core.
            engine: instead of the file's, with the `address` of its cluster.

        Raises:
            StoreError: another filter is at work on this store.
        """
        hands = open_engine(engine or self.file.engine, workers, address)
        with locked(self.file.store, "filter"):
            return lhq.filter.run(self.file.store, self.rules(), hands, judge_only=judge_only, on_progress=on_progress)

    def _judgement(self) -> dict[str, MeasureSettings]:
        """The settings that judge, which may prefer sources in the file's order."""
        sources = tuple(self.file.sources)
        return {name: settings.preferring(sources) for name, settings in self.file.filters.items()}

    # --- look -------------------------------------------------------------------------------------------------------

    def report(self, output: str) -> int:
        """Write the page that shows what the filter does; its size in bytes. See `lhq.report.render`.

        Raises:
            InputError: there are no photos, or the page can't be written.
        """
        store, found = self.file.store, self.rules()
        if not Shards(store, "photos").numbers():
            raise InputError(f"{store}: no photos", hint=f"run `lhq crawl {self.file.path}` first")
        judged = lhq.filter.judge_photos(store, found, unmeasured_allowed=True)
        judged_by = {rule.name: (rule.measure, rule.settings) for rule in found}
        page = lhq.report.render(store, self.file.path.stem, judged.table, judged.verdicts, judged_by).encode()
        _write(output, page, "-o")
        copies.note(self.file.local, Copy("report", os.path.abspath(output)))
        return len(page)

    def show(self, id: str) -> lhq.report.show.Shown:
        """One photo with all its facts, judged by the file's present limits; see `lhq.report.show.find`.

        Raises:
            InputError: the store holds no such photo.
        """
        found = self.rules()
        shown = lhq.report.show.find(self.file.store, id, {rule.name: rule.measure for rule in found})
        said = lhq.filter.judge_photo(self.file.store, found, id, shown.shard, shown.row)
        return replace(shown, verdicts=said)

    def picture(self, shown: lhq.report.show.Shown, output: str) -> None:
        """Write the photo as JPEG with what was detected on it; see `lhq.report.show.picture`.

        Raises:
            ImageError: the photo's bytes don't decode.
            InputError: the file can't be written.
        """
        _write(output, lhq.report.show.picture(shown, self.file.filters.get("objects")), "--image")
        copies.note(self.file.local, Copy("picture", os.path.abspath(output)))

    # --- export -----------------------------------------------------------------------------------------------------

    def export(
        self,
        changes: Mapping[str, object] | None = None,
        *,
        format: Literal["parquet", "zip", "webdataset"] = "parquet",
        repository: str = "",
        public: bool = False,
        on_progress: OnProgress = silent,
    ) -> Exported:
        """Write the dataset of the kept photos; see `lhq.export.export`.

        Args:
            changes: settings of `[export]` to take instead of the file's.
            format: archives to write beside the dataset, if not `parquet`.
            repository: ORG/NAME of the Hub to push to; made private if it is not there, unless `public`.

        Raises:
            RightsRefused: also where a private set is to be pushed.
            LhqError: see `lhq.export.export`, `lhq.export.archives.write`, `lhq.export.hub.push`.
        """
        given = {**self.file.export.model_dump(), **(changes or {})}
        settings = validate(lhq.export.ExportSettings, given, "lhq export")
        if repository:
            hub.check_name(repository)
            if settings.publish == "private":
                raise RightsRefused(
                    f'publish = "private": this set may not be pushed to {repository}',
                    hint="give --publish bytes if all licences allow it, or --publish manifest for ids and URLs",
                )
        self._warn_of_other_judgement()
        # Always this machine's engine: rendered pictures lie on its disk.
        engine = Local(soon="" if settings.publish == "manifest" else RenderJob.__module__)
        report = lhq.export.export(
            self.file.store,
            settings,
            rights_of=SourceRights(),
            engine=engine,
            policy=self.file.policy,
            on_progress=on_progress,
        )
        if not report.num_rows:
            return Exported(report, "", "")
        copies.note(self.file.local, Copy("dataset", report.to))
        beside = ""
        if format != "parquet":
            names = {one.variant.name: one.folder for one in report.written}
            beside = archives.write(report.to, names, format, on_progress)
            copies.note(self.file.local, Copy("archives", beside))
        return Exported(report, beside, self._push(report.to, repository, public) if repository else "")

    def _push(self, folder: str, repository: str, public: bool) -> str:
        known = [file for one in copies.read(self.file.local) if one.place == repository for file in one.files]
        done = hub.push(folder, repository, public=public, known=known)
        copies.note(self.file.local, Copy("repository", repository, files=done.files))
        return done.address

    def _warn_of_other_judgement(self) -> None:
        judged = verdicts.read(self.file.store) if Shards(self.file.store, "photos").numbers() else None
        said = verdicts.judged_by(judged) if judged is not None else ""
        if said not in {"", verdicts.word(self._judgement())}:
            log.warning(
                "verdicts.parquet was judged by other [filter] settings than %s has now; to judge anew: "
                "lhq filter %s --judge-only",
                self.file.path,
                self.file.path,
            )

    # --- photos that no crawl fetched -------------------------------------------------------------------------------

    def import_photos(
        self,
        kind: Literal["lsun", "folder", "zip"],
        path: str,
        *,
        name: str | None = None,
        licence: str | None = None,
        author: str | None = None,
        papers: str | None = None,
        on_progress: OnProgress = silent,
    ) -> importing.ImportReport:
        """Take a collection into the store; see `lhq.intake.importing`.

        Args:
            name: of the collection; None: its file's.
            papers: a table of papers, photo by photo.

        Raises:
            LhqError: see `lhq.intake.importing.bring`.
        """
        openers = {"lsun": importing.lsun, "folder": importing.folder, "zip": importing.archive}
        total, entries = openers[kind](path)
        table = importing.read_papers(papers) if papers else {}
        stated = importing.Papers({"licence": licence or "", "author": author or ""}, table)
        collection, file = name or Path(path).resolve().stem, self.file
        return importing.bring(entries, kind, collection, stated, file.store, file.local, on_progress, total=total)

    def rehydrate(
        self, manifest: str, *, takes_changed: bool = False, on_progress: OnProgress = silent
    ) -> lhq.intake.rehydrate.RehydrateReport:
        """Fetch a manifest's photos into the store; see `lhq.intake.rehydrate.rehydrate`."""
        with services(self.file) as served:
            return lhq.intake.rehydrate.rehydrate(
                manifest,
                self.file.store,
                self.file.local,
                served.client,
                takes_changed=takes_changed,
                measures=tuple(MEASURES.names()),
                on_progress=on_progress,
            )

    # --- takedown ---------------------------------------------------------------------------------------------------

    def remove(self, names: Sequence[str], *, reason: str = "") -> lhq.takedown.remove.Removed:
        """Take photos down, in the frontier too where a crawl made one; see `lhq.takedown.remove.remove`."""
        done = lhq.takedown.remove.remove(self.file.store, names, reason=reason)
        place = Path(self.file.local) / lhq.crawl.FRONTIER
        if place.exists():
            frontier = Frontier(place)
            try:
                frontier.refuse([*done.new, *done.known], "removed")
            finally:
                frontier.close()
        return done

    def erase(self, *, on_progress: OnProgress = silent) -> lhq.takedown.erase.Erased:
        """Delete what was taken down from the store; see `lhq.takedown.erase.erase`."""
        return lhq.takedown.erase.erase(self.file.store, self.file.local, on_progress=on_progress)

    def recheck(
        self, *, reads_bytes: bool = False, limit: int | None = None, on_progress: OnProgress = silent
    ) -> lhq.takedown.recheck.RecheckReport:
        """What changed at the photos' hosts and sources; see `lhq.takedown.recheck.recheck`."""
        with services(self.file) as served:
            return lhq.takedown.recheck.recheck(
                self.file.store,
                served.client,
                served.sources(),
                reads_bytes=reads_bytes,
                limit=limit,
                on_progress=on_progress,
            )


def _write(output: str, data: bytes, option: str) -> None:
    fs, path = fsspec.core.url_to_fs(output)
    try:
        write_whole(fs, path, lambda sink: sink.write(data))
    except StoreError as error:
        raise InputError(error.message, hint=f"give another place with {option}") from None
