"""TOML → a checked pipeline file: its keys, its tables, its queries.

Only what the file names is imported, and nothing is sent over the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import fsspec
import pydantic

from lhq import nearest
from lhq.config import (
    RELATIVE_TO_FILE,
    HttpSettings,
    PathSetting,
    Settings,
    is_blank,
    read_toml,
    resolve_paths,
    unknown_key,
    validate,
)
from lhq.errors import ConfigError
from lhq.export import ExportSettings
from lhq.export.layout import TAKEN_COLUMNS
from lhq.measures import MeasureSettings
from lhq.pipeline import queries
from lhq.pipeline.places import Places, find
from lhq.pipeline.registry import ENGINES, MEASURES, SOURCES, Registry
from lhq.records import ALL, Query
from lhq.rights import deny_list
from lhq.rights.policy import Policy
from lhq.rights.reservations import SIGNALS
from lhq.sources import SourceSettings


class SandboxSettings(Settings):
    """`[sandbox]`: a local stand-in for Unsplash and Flickr, started with the crawl and stopped after it. A server on
    loopback speaks both APIs. Its port is part of every photo's URL, so it must stay the same for one store.
    """

    port: int = pydantic.Field(8210, gt=0, lt=65536)
    """Port of the sandbox on loopback; part of every photo's URL, so keep it as long as the store."""
    photos: Annotated[str | tuple[str, ...], RELATIVE_TO_FILE] = ()
    """Folders of pictures to serve; none: painted scenes."""
    num_scenes: int = pydantic.Field(300, gt=0)
    """How many painted photos the services offer."""
    seed: int = 0
    """Each seed paints different scenes."""


class TopSettings(Settings):
    """The keys of a pipeline file outside its tables."""

    store: str = pydantic.Field(min_length=1)
    """Folder or address (`s3://…`) for photos, facts and verdicts."""
    queries: str | list[str] = queries.SHIPPED
    """A `.txt` file, a folder of them, a list, or `landscapes`, the 400 that come with the package."""
    want: int | None = pydantic.Field(None, gt=0)
    """How many photos the crawl keeps; the filter keeps some of those. Required for sources on a network; without it,
    folders give all they have."""
    local: str = ""
    """Folder for frontier and spool, on this machine's disk; empty: the store, if that is a folder."""

    @pydantic.field_validator("store", "local")
    @classmethod
    def _names_a_place(cls, place: str) -> str:
        if place and is_blank(place):
            raise ValueError("no path is called so")
        return place

    engine: str = "local"
    """What runs filter and export: local, ray, or an engine of an installed package."""


class RightsSettings(Settings):
    """`[rights]`: which opt-outs apply, and whose photos to leave out."""

    honour: tuple[str, ...] = tuple(SIGNALS)
    """Opt-out signals that keep a photo out; signals not listed are still checked and recorded."""
    deny: PathSetting = ""
    """A file of authors, pages and domains to leave out, one per line; relative to the pipeline file."""

    @pydantic.field_validator("honour")
    @classmethod
    def _are_signals(cls, honour: tuple[str, ...]) -> tuple[str, ...]:
        known = f"known: {', '.join(SIGNALS)}"
        for name in honour:
            if name not in SIGNALS:
                raise ValueError(f'"{name}" is no signal; {nearest.word(name, SIGNALS, known)}')
        return honour


COMMAND = "command"  # the measure whose tables each have a name of their own
TABLES = ("http", "sandbox", "rights", "source", "filter", "export")


@dataclass(frozen=True)
class PipelineFile:
    """What one pipeline file says, checked. `sources` and `filters` keep the file's order, which is the order of
    preference and of judgement. `store` is a folder or URL, `local` the folder of frontier and spool. `want` is `ALL`
    where the file does not say."""

    path: Path
    store: str
    local: str
    queries: tuple[Query, ...]
    want: int
    engine: str
    http: HttpSettings
    sandbox: SandboxSettings | None
    sources: Mapping[str, SourceSettings]
    filters: Mapping[str, MeasureSettings]
    export: ExportSettings
    policy: Policy = field(default_factory=Policy)


def read(path: str | os.PathLike[str]) -> PipelineFile:
    """Read and check a pipeline file, its queries included.

    Raises:
        ConfigError: names file, table, key and next move.
    """
    places = find(path)
    path = places.path
    tables = read_toml(path)
    for name in tables:
        if name not in {*TopSettings.model_fields, *TABLES}:
            raise unknown_key(name, [*TopSettings.model_fields, *TABLES], str(path))
    top = validate(TopSettings, {k: v for k, v in tables.items() if k in TopSettings.model_fields}, str(path))
    if top.engine not in ENGINES.names():
        hint = nearest.word(top.engine, ENGINES.names(), f"give one of {', '.join(ENGINES.names())}")
        raise ConfigError(f'{path}: engine = "{top.engine}": no such engine', hint=hint)
    sandbox = _table(tables, "sandbox", path) if "sandbox" in tables else None
    sources = _named(SOURCES, _table(tables, "source", path), f"{path} [source", places)
    rights = validate(RightsSettings, _table(tables, "rights", path), f"{path} [rights]")
    store = _reachable(places.place(top.store), path)
    return PipelineFile(
        path=path,
        store=store,
        local=_local(top, store, places),
        queries=_queries(top, "queries" in tables, sources, places),
        want=_want(top, "queries" in tables, sources, path),
        engine=top.engine,
        http=validate(HttpSettings, _table(tables, "http", path), f"{path} [http]"),
        sandbox=None
        if sandbox is None
        else resolve_paths(validate(SandboxSettings, sandbox, f"{path} [sandbox]"), places.place),
        sources=sources,
        filters=_named(MEASURES, _table(tables, "filter", path), f"{path} [filter", places),
        export=resolve_paths(
            validate(ExportSettings, _table(tables, "export", path), f"{path} [export]"), places.place
        ),
        policy=_policy(resolve_paths(rights, places.place), sources, path),
    )


def _queries(
    top: TopSettings, is_given: bool, sources: Mapping[str, SourceSettings], places: Places
) -> tuple[Query, ...]:
    """No queries are needed if every source offers all it has."""
    if any(SOURCES.load(name).needs_queries for name in sources) or (is_given and top.queries):
        return queries.read(top.queries, str(places.path), places)
    return ()


def _want(top: TopSettings, has_queries: bool, sources: Mapping[str, SourceSettings], path: Path) -> int:
    """All photos, if nothing comes over a network: folders, or a store that only `lhq import` fills."""
    is_local = all(SOURCES.load(name).is_local for name in sources) and not (has_queries and not sources)
    if top.want is None and not is_local:
        raise ConfigError(f'{path}: "want" is missing', hint="add a line want = …, how many photos to fetch")
    return top.want or ALL


def _policy(settings: RightsSettings, sources: Mapping[str, SourceSettings], path: Path) -> Policy:
    stated = {name: source.stated_permission() for name, source in sources.items()}
    return Policy(
        honour=settings.honour,
        deny_list=deny_list.read(Path(settings.deny), f"{path} [rights]") if settings.deny else deny_list.DenyList(),
        permissions={name: permission for name, permission in stated.items() if permission},
    )


def _table(tables: Mapping[str, object], name: str, path: Path) -> Mapping[str, object]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} = {table!r} is not a table", hint=f"write [{name}] and its keys below it")
    return table


def _named(registry: Registry, tables: Mapping[str, object], where: str, places: Places) -> dict[str, Any]:
    """The settings of every `[source.NAME]` or `[filter.NAME]` table, in the file's order."""
    settings: dict[str, Any] = {}
    for name, table in tables.items():
        if name not in registry.names():
            raise unknown_key(name, registry.names(), f"{where}]")
        if not isinstance(table, dict):
            raise ConfigError(
                f"{where}.{name}] = {table!r} is not a table", hint=f"write {where.rsplit(' ', 1)[-1]}.{name}]"
            )
        kind = registry.load(name, f"{where}.{name}]").settings_class
        if name == COMMAND:
            settings |= _commands(kind, table, registry.names(), f"{where}.{name}")
        else:
            settings[name] = resolve_paths(validate(kind, table, f"{where}.{name}]"), places.place)
    return settings


def _commands(
    kind: type[MeasureSettings], tables: Mapping[str, object], taken: Sequence[str], where: str
) -> dict[str, MeasureSettings]:
    """The settings of every `[filter.command.NAME]`, by `command.NAME`."""
    settings: dict[str, MeasureSettings] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{where}]: {name} = {table!r}: a command needs a name", hint="write [filter.command.NAME]"
            )
        if name in taken or not name.isidentifier() or "_" in name:
            raise ConfigError(
                f"{where}.{name}]: no name for a command", hint="letters and digits, and no measure's name"
            )
        settings[f"{COMMAND}.{name}"] = given = validate(kind, table, f"{where}.{name}]")
        for column in given.own_columns():
            if (whole := f"{name}_{column}") in TAKEN_COLUMNS:
                raise ConfigError(
                    f"{where}.{name}]: columns: {column} would be exported as {whole}, which every photo has already",
                    hint="give the command or the column another name",
                )
    return settings


_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


def _reachable(store: str, path: Path) -> str:
    """`store`, if there is a filesystem for its kind of address; it is not contacted yet."""
    try:
        fsspec.get_filesystem_class(fsspec.utils.get_protocol(store))
    except ValueError:
        raise ConfigError(f"{path}: store = {store!r}: unknown kind of address", hint="a folder, or s3://…") from None
    except ImportError as error:
        extra = _EXTRAS.get(fsspec.utils.get_protocol(store))
        hint = f"pip install 'lhq[{extra}]'" if extra else "install that package"
        raise ConfigError(f"{path}: store = {store!r}: {error}", hint=hint) from None
    return store


def _local(top: TopSettings, store: str, places: Places) -> str:
    if top.local:
        return places.place(top.local)
    if "://" in top.store:
        raise ConfigError(
            f"{places.path}: store = {top.store!r} is remote, and the frontier needs this machine's disk",
            hint='add local = "data/NAME", a folder for the frontier and the spool',
        )
    return store
