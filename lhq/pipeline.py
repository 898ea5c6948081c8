"""Pipeline file → plan → run: the one table of names, and the wiring of the stages.

Everything a name in a pipeline file can mean stands in `SOURCES` and `MEASURES`. Modules are imported at
first use, so a crawl never loads torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from rich.console import Console
from rich.progress import Progress, TaskID

import lhq.export
from lhq.config import HttpSettings, Settings, read_toml, unknown_key, validate
from lhq.engines import Engine, ShardReport
from lhq.engines.local import Local
from lhq.errors import ConfigError
from lhq.filter import Filtered, Rule
from lhq.filter import run as run_filter
from lhq.licences import Rights
from lhq.measures import MeasureSettings
from lhq.records import Query

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
    photos: str = ""
    """A folder of pictures to serve; empty: painted scenes."""
    num_scenes: int = pydantic.Field(300, gt=0)
    seed: int = 0


class _Top(Settings):
    """The keys of a pipeline file outside its tables."""

    store: str
    queries: str | list[str] = "queries/"
    want: int = pydantic.Field(gt=0)
    engine: str = pydantic.Field("local", pattern="^(local|ray)$")


@dataclass(frozen=True)
class Pipeline:
    """One validated pipeline file. `sources` and `filters` keep the file's order, which is the order of
    preference and of judgement. `export` is the `[export]` table's settings."""

    path: Path
    store: str
    queries: tuple[Query, ...]
    want: int
    engine: str
    http: HttpSettings
    sandbox: SandboxSettings | None
    sources: Mapping[str, Settings] = field(default_factory=dict)
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
        store=_store(head.store),
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
            raise ConfigError(f"{where}.{name}] = {table!r} is not a table", hint=f"write {where}.{name}]")
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
            except OSError as error:
                raise ConfigError(
                    f"{path}: queries = {given!r}: {error.strerror}",
                    hint="give a .txt file, a folder of them, or a list",
                ) from None
            found += [Query(text, file.stem) for line in lines if (text := line.split("#")[0].strip())]
    unique = {" ".join(query.text.split()).casefold(): query for query in reversed(found) if query.text.strip()}
    if not unique:
        raise ConfigError(f"{path}: queries = {given!r} holds no query", hint="one query a line, # starts a comment")
    return tuple(reversed(unique.values()))


def rules(pipeline: Pipeline) -> list[Rule]:
    """The `[filter.<name>]` tables as rules, in file order."""
    found = []
    for name, settings in pipeline.filters.items():
        if name == "duplicates" and not getattr(settings, "sources", ()):
            settings = settings.model_copy(update={"sources": tuple(pipeline.sources)})
        found.append(Rule(build(MEASURES, name, settings), settings))
    return found


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


def rights() -> dict[str, Rights]:
    """What each source's terms allow, by the source's name in a photo's papers."""
    there = {name: entry for name, entry in SOURCES.items() if importlib.util.find_spec(entry[0])}
    return {name: _find(module, kind).rights for name, (module, kind, _) in there.items()}


def export(
    pipeline: Pipeline, changes: Mapping[str, object], told: Callable[[str, int, int], None]
) -> lhq.export.ExportReport:
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
