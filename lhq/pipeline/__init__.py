"""Pipeline file → plan → run: the one table of names, and the wiring of the stages.

Everything a name in a pipeline file can mean stands in `SOURCES` and `MEASURES`. Modules are imported at
first use, so a crawl never loads torch.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import pydantic
from rich.console import Console
from rich.progress import Progress, TaskID

import lhq.crawl
import lhq.crawl.plan
import lhq.crawl.status
from lhq.config import HttpSettings, Settings, read_toml, unknown_key, validate
from lhq.crawl import CrawlReport
from lhq.crawl.frontier import Listed
from lhq.engines import Engine, ShardReport
from lhq.engines.local import Local
from lhq.errors import ConfigError, StoreError
from lhq.filter import Filtered, Rule
from lhq.filter import run as run_filter
from lhq.http import Client
from lhq.measures import MeasureSettings
from lhq.records import Query
from lhq.sources import Source, SourceSettings

# name → (module, class, settings class); a class is built as Class(settings, …) by the stage that uses it.
SOURCES: dict[str, tuple[str, str, str]] = {
    "unsplash": ("lhq.sources.unsplash", "Unsplash", "UnsplashSettings"),
    "flickr": ("lhq.sources.flickr", "Flickr", "FlickrSettings"),
    "folder": ("lhq.sources.folder", "Folder", "FolderSettings"),
    "unsplash_dataset": ("lhq.sources.unsplash_dataset", "UnsplashDataset", "UnsplashDatasetSettings"),
    "commons": ("lhq.sources.commons", "Commons", "CommonsSettings"),
}
MEASURES: dict[str, tuple[str, str, str]] = {
    "size": ("lhq.measures.size", "Size", "SizeSettings"),
    "duplicates": ("lhq.measures.duplicates", "Duplicates", "DuplicatesSettings"),
    "objects": ("lhq.measures.objects", "Objects", "ObjectsSettings"),
    "outliers": ("lhq.measures.outliers", "Outliers", "OutliersSettings"),
    "connectability": ("lhq.measures.connectability", "Connectability", "ConnectabilitySettings"),
    "text": ("lhq.measures.text", "Text", "TextSettings"),
}


class SandboxSettings(Settings):
    """`[sandbox]`: the services in a box, started with the crawl and stopped after it.

    With this table the APIs of Unsplash and Flickr are spoken by a server on loopback. The port is part of
    every photo's URL, so it must stay the same from run to run of one store.
    """

    port: int = pydantic.Field(8210, gt=0, lt=65536)
    photos: str | tuple[str, ...] = ()
    """Folders of pictures to serve; none: painted scenes."""
    num_scenes: int = pydantic.Field(300, gt=0)
    seed: int = 0


class _Top(Settings):
    """The keys of a pipeline file outside its tables."""

    store: str
    queries: str | list[str] = "queries/"
    want: int = pydantic.Field(gt=0)
    local: str = ""
    """Folder of frontier and spool, which must be on this machine's disk; empty: the store, if that is a folder."""
    engine: str = pydantic.Field("local", pattern="^(local|ray)$")


@dataclass(frozen=True)
class Pipeline:
    """One validated pipeline file. `sources` and `filters` keep the file's order, which is the order of
    preference and of judgement. `export` is the `[export]` table's settings."""

    path: Path
    store: str
    local: str
    queries: tuple[Query, ...]
    want: int
    engine: str
    http: HttpSettings
    sandbox: SandboxSettings | None
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    filters: Mapping[str, MeasureSettings] = field(default_factory=dict)
    export: Settings = field(default_factory=Settings)


def load(path: str | os.PathLike[str]) -> Pipeline:
    """Read and check a pipeline file, its queries included; nothing is imported that it does not name.

    Raises:
        ConfigError: names file, table, key and next move.
    """
    path = Path(path)
    tables = read_toml(path)
    top = {k: v for k, v in tables.items() if k in _Top.model_fields}
    for name in tables:
        if name not in {*_Top.model_fields, "http", "sandbox", "source", "filter", "export"}:
            raise unknown_key(name, [*_Top.model_fields, "http", "sandbox", "source", "filter", "export"], str(path))
    head = validate(_Top, top, str(path))
    export_settings = _find("lhq.export", "ExportSettings")
    sandbox = tables.get("sandbox")
    return Pipeline(
        path=path,
        store=_reachable(_store(head.store), path),
        local=_local(head, path),
        queries=_queries(head.queries, path),
        want=head.want,
        engine=head.engine,
        http=validate(HttpSettings, _table(tables, "http", path), f"{path} [http]"),
        sandbox=None
        if sandbox is None
        else validate(SandboxSettings, _table(tables, "sandbox", path), f"{path} [sandbox]"),
        sources=_named(SOURCES, _table(tables, "source", path), f"{path} [source"),
        filters=_named(MEASURES, _table(tables, "filter", path), f"{path} [filter"),
        export=validate(export_settings, _table(tables, "export", path), f"{path} [export]"),
    )


def _table(tables: Mapping[str, object], name: str, path: Path) -> Mapping[str, object]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} = {table!r} is not a table", hint=f"write [{name}] and its keys below it")
    return table


def _named(known: Mapping[str, tuple[str, str, str]], tables: Mapping[str, object], where: str) -> dict[str, Any]:
    settings = {}
    for name, table in tables.items():
        if name not in known:
            raise unknown_key(name, list(known), f"{where}]")
        if not isinstance(table, dict):
            raise ConfigError(
                f"{where}.{name}] = {table!r} is not a table", hint=f"write {where.rsplit(' ', 1)[-1]}.{name}]"
            )
        module, _, kind = known[name]
        settings[name] = validate(_find(module, kind), table, f"{where}.{name}]")
    return settings


def _find(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def build(table: Mapping[str, tuple[str, str, str]], name: str, *args: Any) -> Any:
    """The class that `name` stands for in `SOURCES` or `MEASURES`, built with `args`."""
    module, kind, _ = table[name]
    return _find(module, kind)(*args)


def _store(store: str) -> str:
    return store if "://" in store else os.path.abspath(os.path.expanduser(store))


def _reachable(store: str, path: Path) -> str:
    """`store`, if there is a filesystem for its kind of address; nothing is asked of it yet."""
    try:
        fsspec.get_filesystem_class(fsspec.utils.get_protocol(store))
    except ValueError:
        raise ConfigError(f"{path}: store = {store!r}: unknown kind of address", hint="a folder, or s3://…") from None
    except ImportError as error:
        hint = "pip install 'lhq[s3]'" if store.startswith("s3") else "install that package"
        raise ConfigError(f"{path}: store = {store!r}: {error}", hint=hint) from None
    return store


def _local(head: _Top, path: Path) -> str:
    if head.local:
        return os.path.abspath(os.path.expanduser(head.local))
    if "://" in head.store:
        raise ConfigError(
            f"{path}: store = {head.store!r} is remote, and the crawl's memory needs a disk of this machine",
            hint='add local = "data/NAME", a folder for the frontier and for photos on their way',
        )
    return _store(head.store)


def _queries(given: str | list[str], path: Path) -> tuple[Query, ...]:
    """Queries in file order, without duplicates after case and white-space folding."""
    if isinstance(given, list):
        found = [Query(text) for text in given]
    else:
        place = Path(given)
        files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
        found = []
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                said = f"{file} is not UTF-8 ({error.reason})" if isinstance(error, ValueError) else error.strerror
                raise ConfigError(
                    f"{path}: queries = {given!r}: {said}",
                    hint="give a UTF-8 .txt file, a folder of them (from where lhq is run), or a list",
                ) from None
            found += [Query(text, file.stem) for line in lines if (text := line.split("#")[0].strip())]
    unique = {" ".join(query.text.split()).casefold(): query for query in reversed(found) if query.text.strip()}
    if not unique:
        raise ConfigError(f"{path}: queries = {given!r} holds no query", hint="one query a line, # starts a comment")
    return tuple(reversed(unique.values()))


@contextmanager
def services(pipeline: Pipeline) -> Iterator[Pipeline]:
    """The pipeline as it is to be run: with `[sandbox]`, the services are started and the sources pointed at them.

    Raises:
        UserError: the sandbox's port is in use; InputError: its folder of photos is missing or empty.
    """
    if pipeline.sandbox is None:
        yield pipeline
        return
    asked = pipeline.sandbox
    sandbox = _find("lhq.sandbox", "Sandbox")
    with sandbox(photos=asked.photos or None, seed=asked.seed, num_scenes=asked.num_scenes, port=asked.port) as box:
        places = {"unsplash": f"{box.url}/unsplash", "flickr": f"{box.url}/flickr/services/rest/"}
        sources = {
            name: settings.model_copy(update={"api": places[name]}) if name in places else settings
            for name, settings in pipeline.sources.items()
        }
        hosts = (*pipeline.http.allow_hosts, box.url.split("://")[1])
        yield replace(pipeline, sources=sources, http=pipeline.http.model_copy(update={"allow_hosts": hosts}))


def crawl_photos(pipeline: Pipeline, *, retry: Sequence[str] = (), want: int | None = None) -> CrawlReport:
    """Fetch photos into the pipeline's store; see `lhq.crawl.crawl`.

    Raises:
        ConfigError: the pipeline file names no source.
        StoreError: another crawl is at work on the store.
        KeyMissing: a source's key or permission is not there.
    """
    _need_source(pipeline)
    with lhq.crawl.locked(pipeline.local), services(pipeline) as served:
        client = Client(served.http)
        sources: dict[str, Source] = {
            name: build(SOURCES, name, settings, client) for name, settings in served.sources.items()
        }
        return lhq.crawl.crawl(
            served.store, served.local, sources, served.queries, want or served.want, client, retry=retry
        )


def _need_source(pipeline: Pipeline) -> None:
    if not pipeline.sources:
        raise ConfigError(f"{pipeline.path}: no source to crawl", hint=f"add [source.NAME]: {', '.join(SOURCES)}")


def crawl_plan(pipeline: Pipeline, *, want: int | None = None) -> str:
    """What a crawl will cost, in words; nobody is asked, no key is needed.

    Raises:
        ConfigError: the pipeline file names no source.
    """
    _need_source(pipeline)
    try:
        num_kept = lhq.crawl.status.status(pipeline.store, pipeline.local, 1).num_kept
    except StoreError:
        num_kept = 0  # no crawl was started here
    sources = {name: (_find(*SOURCES[name][:2]).limits, settings) for name, settings in pipeline.sources.items()}
    place = Path(pipeline.local)
    while not place.exists():
        place = place.parent
    found = lhq.crawl.plan.plan(want or pipeline.want, num_kept, len(pipeline.queries), sources)
    return found.text(shutil.disk_usage(place).free)


def crawl_status(pipeline: Pipeline) -> lhq.crawl.status.Status:
    """The funnel of the pipeline's store; see `lhq.crawl.status.status`."""
    return lhq.crawl.status.status(pipeline.store, pipeline.local, pipeline.want)


def crawl_listing(
    pipeline: Pipeline, statuses: Sequence[str], reasons: Sequence[str], sources: Sequence[str]
) -> Iterator[Listed]:
    """The candidates of the pipeline's store; see `lhq.crawl.status.listing`."""
    return lhq.crawl.status.listing(pipeline.store, pipeline.local, statuses, reasons, sources)


def judging(pipeline: Pipeline) -> dict[str, MeasureSettings]:
    """The `[filter.<name>]` tables as they judge, in file order: duplicates prefer sources in the file's order too."""
    found = dict(pipeline.filters)
    duplicates = found.get("duplicates")
    if duplicates is not None and not getattr(duplicates, "sources", ()):
        found["duplicates"] = duplicates.model_copy(update={"sources": tuple(pipeline.sources)})
    return found


def rules(pipeline: Pipeline) -> list[Rule]:
    """The `[filter.<name>]` tables as rules, in file order."""
    return [Rule(build(MEASURES, name, settings), settings) for name, settings in judging(pipeline).items()]


def engine(pipeline: Pipeline, workers: int = 0) -> Engine:
    """The engine that the pipeline file names; `workers` 0: one a core."""
    if pipeline.engine == "ray":
        ray: Engine = _find("lhq.engines.ray", "Ray")(workers)
        return ray
    return Local(workers)


def filter_photos(pipeline: Pipeline, *, judge_only: bool = False, workers: int = 0) -> Filtered:
    """Measure and judge the store's photos, with a progress bar on a terminal; see `lhq.filter.run`."""
    bars: dict[str, TaskID] = {}
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:

        def on_report(names: str, num_shards: int, report: ShardReport) -> None:
            if names not in bars:
                bars[names] = progress.add_task(names, total=num_shards)
            progress.advance(bars[names])

        return run_filter(
            pipeline.store, rules(pipeline), engine(pipeline, workers), judge_only=judge_only, on_report=on_report
        )
