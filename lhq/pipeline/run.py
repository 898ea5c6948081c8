"""Pipeline file → stages, each given just what it needs.

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
from lhq import nearest
from lhq.config import validate
from lhq.crawl.frontier import Listed
from lhq.errors import ConfigError, InputError, NotCrawled, UserError
from lhq.export.render_job import RenderJob
from lhq.filter import Rule
from lhq.images import set_max_pixels
from lhq.intake import Destination, importing
from lhq.measures import MeasureSettings
from lhq.pipeline import collections, publishing, takedown
from lhq.pipeline import output as output_file
from lhq.pipeline.collections import Kind, Stated
from lhq.pipeline.file import PipelineFile, read
from lhq.pipeline.publishing import Exported, Push
from lhq.pipeline.registry import MEASURES, SOURCES, SourceRights, open_engine, open_measure
from lhq.pipeline.services import obstacles, services
from lhq.progress import OnProgress, silent
from lhq.report import rights_page
from lhq.report.rights_facts import RightsFacts, gather
from lhq.store import copies, verdicts
from lhq.store.copies import Copy
from lhq.store.lock import locked
from lhq.store.remote import check
from lhq.store.shards import Shards
from lhq.takedown.near_duplicates import NearDuplicates
from lhq.takedown.remove import RemoveReport

log = logging.getLogger("lhq")


def load(path: str | os.PathLike[str]) -> Pipeline:
    """A pipeline file, read and checked.

    Raises:
        ConfigError: names file, table, key and next move.
    """
    set_max_pixels((file := read(path)).http.max_pixels)  # whatever this process and its workers decode from here on
    return Pipeline(file)


def verify(
    folder: str, *, engine: str = "local", address: str = "", on_progress: OnProgress = silent
) -> lhq.export.verify.VerifyReport:
    """Check a dataset's folder with all cores, or by a cluster; see `lhq.export.verify.verify`."""
    hands = open_engine(engine, address=address)
    return lhq.export.verify.verify(folder, engine=hands, on_progress=on_progress)


@dataclass(frozen=True)
class Pipeline:
    """The stages of one pipeline file; each resumes where an earlier run stopped."""

    file: PipelineFile

    def _store(self, *, writes: bool = False) -> str:
        """The store's address; a bucket is asked whether it is there, and may be written, before any work starts.

        Raises:
            StoreError: it is not, or the credentials are missing or refused.
        """
        set_max_pixels(self.file.http.max_pixels)  # another pipeline of this process may have set its own
        check(self.file.store, writes=writes)
        return self.file.store

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
        self._store(writes=True)
        file = self.file
        with locked(file.local, "crawl"), services(file) as served:
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
        """What a crawl will cost. Sends nothing and needs no key (`obstacles` lists what is missing).

        Raises:
            ConfigError: the file names no source.
            StoreError: the frontier can't be read.
        """
        self._need_source()
        try:
            num_kept = lhq.crawl.status.status(self.file.store, self.file.local, 1).num_kept
        except NotCrawled:
            num_kept = 0
        sources = {name: (SOURCES.load(name).limits, settings) for name, settings in self.file.sources.items()}
        seen = lhq.crawl.status.seen(self.file.store, self.file.local)
        return lhq.crawl.plan.plan(want or self.file.want, num_kept, len(self.file.queries), sources, seen)

    def _planned(self, want: int | None) -> dict[str, object]:
        seen = lhq.crawl.status.seen(self.file.store, self.file.local)
        return {**self.plan(want=want).as_json(), "kept_bytes": sum(seen.size_bytes.values())}

    def obstacles(self) -> list[UserError]:
        """What would stop a crawl before its first request: a missing key, permission, contact or folder."""
        return obstacles(self.file)

    def free_bytes(self) -> int:
        """Free space on the disk of frontier and spool, whether they exist yet or not."""
        place = Path(self.file.local)
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def status(self) -> lhq.crawl.status.Status:
        """The funnel of the store; see `lhq.crawl.status.status`."""
        return lhq.crawl.status.status(self._store(), self.file.local, self.file.want)

    def candidates(
        self, *, statuses: Sequence[str] = (), reasons: Sequence[str] = (), sources: Sequence[str] = ()
    ) -> Iterator[Listed]:
        """The store's candidates, narrowed by what is given; see `lhq.crawl.status.listing`."""
        known = [*SourceRights()]
        for name in sources:
            if name not in known and name not in self.status().sources:
                hint = nearest.word(name, known, f"the sources: {', '.join(known)}")
                raise InputError(f'no source is called "{name}"', hint=hint)
        return lhq.crawl.status.listing(self._store(), self.file.local, statuses, reasons, sources)

    def _need_source(self) -> None:
        if not self.file.sources:
            hint = f"add [source.NAME]: {', '.join(SOURCES.names())}"
            raise ConfigError(f"{self.file.path}: no source to crawl", hint=hint)

    # --- filter -----------------------------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        """The `[filter.<name>]` tables as rules, in file order."""
        set_max_pixels(self.file.http.max_pixels)
        return [Rule(open_measure(name, settings), settings) for name, settings in self._judgement().items()]

    def filter(
        self,
        *,
        judge_only: bool = False,
        workers: int = 0,
        engine: str = "",
        address: str = "",
        on_progress: OnProgress = silent,
    ) -> lhq.filter.FilterReport:
        """Measure what has no facts yet, judge everything, and write `verdicts.parquet`; see `lhq.filter.run`.

        Args:
            workers: processes for CPU measures; 0: one per core.
            engine: instead of the file's, with the `address` of its cluster.

        Raises:
            StoreError: another filter is at work on this store.
        """
        hands = open_engine(engine or self.file.engine, workers, address=address)
        store = self._store()
        with locked(store, "filter"):
            return lhq.filter.run(store, self.rules(), hands, judge_only=judge_only, on_progress=on_progress)

    def _judgement(self) -> dict[str, MeasureSettings]:
        """The settings to judge by; some prefer sources in the file's order."""
        sources = tuple(self.file.sources)
        return {name: settings.preferring(sources) for name, settings in self.file.filters.items()}

    # --- look -------------------------------------------------------------------------------------------------------

    def report(self, output: str) -> lhq.report.WrittenReport:
        """Write the page that shows what the filter does; see `lhq.report.render`.

        Raises:
            InputError: there are no photos, or the page can't be written.
        """
        output_file.check(output, "-o")
        copies.read(self.file.local)
        store, found = self._store(), self.rules()
        if not Shards(store, "photos").numbers():
            raise InputError(f"{store}: no photos", hint=f"run `lhq crawl {self.file.path}` first")
        judged = lhq.filter.judge_photos(store, found, unmeasured_allowed=True)
        judged_by = {rule.name: (rule.measure, rule.settings) for rule in found}
        page = lhq.report.render(store, self.file.path.stem, judged.table, judged.verdicts, judged_by).encode()
        output_file.write(output, page, "-o")
        copies.record(self.file.local, Copy("report", os.path.abspath(output)))
        kept = judged.table["kept"].to_numpy(zero_copy_only=False)
        return lhq.report.WrittenReport(output, len(page), len(kept), int(kept.sum()))

    def show(self, id: str) -> lhq.report.show.Shown:
        """One photo with all its facts, judged by the file's current limits; see `lhq.report.show.find`.

        Raises:
            InputError: the store holds no such photo.
        """
        found = self.rules()
        shown = lhq.report.show.find(self._store(), id, {rule.name: rule.measure for rule in found})
        said = lhq.filter.judge_photo(self._store(), found, id, shown.shard, shown.row)
        return replace(shown, verdicts=said)

    def picture(self, shown: lhq.report.show.Shown, output: str) -> None:
        """Write the photo as JPEG with what was detected on it; see `lhq.report.show.picture`.

        Raises:
            ImageError: the photo's bytes don't decode.
            InputError: the file can't be written.
        """
        output_file.check(output, "--image")
        copies.read(self.file.local)
        output_file.write(output, lhq.report.show.picture(shown, self.file.filters.get("objects")), "--image")
        copies.record(self.file.local, Copy("picture", os.path.abspath(output)))

    def rights(self) -> RightsFacts:
        """What the papers of the kept photos allow, counted; see `lhq.report.rights_facts.gather`."""
        return gather(self._store(), SourceRights(), self.file.policy, obeys_robots=self.file.http.robots)

    def rights_text(self, *, only_summary: bool = False) -> str:
        """`rights` as one page of Markdown, or the public summary of training content alone."""
        return rights_page.text(self.rights(), self.file.export.name, self.file.http.user_agent, only_summary)

    def rights_page(self, output: str, *, only_summary: bool = False) -> None:
        """Write `rights_text` to a file, as HTML if its name ends so.

        Raises:
            InputError: the file can't be written.
        """
        output_file.check(output, "-o")
        text = self.rights_text(only_summary=only_summary)
        output_file.write(output, (rights_page.html(text) if output.endswith(".html") else text).encode(), "-o")

    # --- export -----------------------------------------------------------------------------------------------------

    def export(
        self,
        changes: Mapping[str, object] | None = None,
        *,
        format: Literal["parquet", "zip", "webdataset"] = "parquet",
        repository: str | Push = "",
        engine: str = "",
        address: str = "",
        on_progress: OnProgress = silent,
    ) -> Exported:
        """Write the dataset of the kept photos; see `lhq.export.export`.

        Args:
            changes: settings that override the file's `[export]`.
            format: archives to write next to the dataset, if not `parquet`.
            repository: ORG/NAME on the Hub to push to; a new one is private. `Push("ORG/NAME", public=True)` makes it
            public.
            engine: instead of the file's, with the `address` of its cluster.

        Raises:
            RightsRefused: also for a push of a private set.
            LhqError: see `lhq.export.export`, `lhq.export.archives.write`, `lhq.export.hub.push`.
        """
        given = {**self.file.export.model_dump(), **(changes or {})}
        settings = validate(lhq.export.ExportSettings, given, "lhq export")
        push = repository if isinstance(repository, Push) else Push(repository)
        if push.repository:
            publishing.check_push(settings, push.repository)
        self._store()
        self._warn_of_other_judgement()
        soon = "" if settings.publish == "manifest" else RenderJob.__module__
        hands = open_engine(engine or self.file.engine, address=address, soon=soon)
        return publishing.export(self.file, settings, hands, format, push, on_progress)

    def _warn_of_other_judgement(self) -> None:
        store = self.file.store
        judged = verdicts.read(store) if Shards(store, "photos").numbers() else None
        said = verdicts.judged_by(judged) if judged is not None else ""
        if said not in {"", lhq.filter.judged_by(self.rules())}:
            log.warning(
                "verdicts.parquet was judged by other [filter] settings than %s has now; to judge anew: "
                "lhq filter %s --judge-only",
                self.file.path,
                self.file.path,
            )

    # --- photos that no crawl fetched -------------------------------------------------------------------------------

    def import_photos(
        self,
        kind: Kind,
        path: str,
        stated: Stated | None = None,
        *,
        name: str | None = None,
        on_progress: OnProgress = silent,
    ) -> importing.ImportReport:
        """Take a collection into the store; see `lhq.intake.importing`.

        Args:
            stated: licence and author of its photos, or a metadata table.
            name: of the collection; None: its file's.

        Raises:
            LhqError: see `lhq.intake.importing.import_collection`.
        """
        self._store(writes=True)
        collection = collections.opened(kind, path, name, stated or Stated())
        return importing.import_collection(
            collection, Destination(self.file.store, self.file.local), on_progress, policy=self.file.policy
        )

    def rehydrate(
        self, manifest: str, *, takes_changed: bool = False, on_progress: OnProgress = silent
    ) -> lhq.intake.rehydrate.RehydrateReport:
        """Fetch a manifest's photos into the store; see `lhq.intake.rehydrate.rehydrate`."""
        destination = self._destination()
        with services(self.file) as served:
            return lhq.intake.rehydrate.rehydrate(
                manifest,
                destination,
                served.client,
                takes_changed=takes_changed,
                measures=tuple(MEASURES.names()),
                on_progress=on_progress,
            )

    def _destination(self) -> Destination:
        return Destination(self._store(writes=True), self.file.local)

    # --- takedown ---------------------------------------------------------------------------------------------------

    def near_duplicates(self, names: Sequence[str]) -> NearDuplicates:
        """The near-duplicates in the store of the photos that `names` would remove; changes nothing."""
        self._store()
        return takedown.versions(self.file, names)

    def remove(self, names: Sequence[str], *, reason: str = "", takes_duplicates: bool = True) -> RemoveReport:
        """Take photos down, in the frontier too where a crawl made one; see `lhq.takedown.remove.remove`.

        Args:
            takes_duplicates: remove near-duplicates too, so that none takes their place.
        """
        self._store()
        return takedown.remove(self.file, names, reason=reason, takes_duplicates=takes_duplicates)

    def erase(self, *, on_progress: OnProgress = silent) -> lhq.takedown.erase.EraseReport:
        """Delete the bytes of removed photos from the store; see `lhq.takedown.erase.erase`."""
        return lhq.takedown.erase.erase(self._store(writes=True), self.file.local, on_progress=on_progress)

    def recheck(
        self, *, reads_bytes: bool = False, limit: int | None = None, on_progress: OnProgress = silent
    ) -> lhq.takedown.recheck.RecheckReport:
        """What has changed at the photos' hosts and sources; see `lhq.takedown.recheck.recheck`."""
        store = self._store(writes=True)
        with services(self.file) as served:
            return lhq.takedown.recheck.recheck(
                store,
                served.client,
                served.sources(),
                reads_bytes=reads_bytes,
                limit=limit,
                on_progress=on_progress,
            )
