"""Name in a pipeline file → the class it stands for: built-in ones from a table, others from entry points.

A package adds a source, a measure or an engine by naming its class in the entry-point group of the registry:

    [project.entry-points."lhq.measures"]
    waterline = "waterline.measure:Waterline"

A class is imported when a pipeline file names it, so a crawl never loads torch.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lhq.config import unknown_key
from lhq.engines import Engine
from lhq.engines.local import Local
from lhq.errors import ConfigError
from lhq.intake import importing
from lhq.measures import Measure, MeasureSettings
from lhq.rights.licences import Rights


@dataclass(frozen=True)
class Registry:
    """The classes of one kind. `own` maps names to `module:Class`; `group` is the entry points' group; `members`
    are what a class must have to be used."""

    noun: str
    group: str
    own: Mapping[str, str]
    members: tuple[str, ...]

    def names(self) -> list[str]:
        """All names that a pipeline file may use: built-in ones first, then those of installed packages, sorted."""
        found = {entry.name for entry in _entries(self.group, tuple(sys.path))}
        return [*self.own, *sorted(found - self.own.keys())]

    def load(self, name: str, where: str = "") -> Any:
        """The class that `name` stands for.

        Args:
            where: what an error starts with, e.g. `pipelines/a.toml [filter.size]`.

        Raises:
            ConfigError: the name is unknown, two packages claim it, or the package's class can't be used.
        """
        where = where or f"{self.noun} {name}"
        entries = [entry for entry in _entries(self.group, tuple(sys.path)) if entry.name == name]
        if name in self.own and not entries:
            module, _, kind = self.own[name].partition(":")
            return getattr(importlib.import_module(module), kind)
        if not entries:
            raise unknown_key(name, self.names(), where)
        if name in self.own or len(entries) > 1:
            owners = ["lhq"] * (name in self.own) + [_package(entry) for entry in entries]
            raise ConfigError(
                f'{where}: {self.noun} "{name}" is offered by {" and ".join(owners)}', hint="uninstall all but one"
            )
        return self._foreign(entries[0], where)

    def _foreign(self, entry: EntryPoint, where: str) -> Any:
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f'{where}: {self.noun} "{entry.name}" of package {_package(entry)} can\'t be imported ({error})',
                hint="install what it needs, or mend its entry point",
            ) from error
        lacking = [member for member in self.members if not hasattr(found, member)]
        if lacking:
            raise ConfigError(
                f'{where}: {self.noun} "{entry.name}" of package {_package(entry)} has no {", ".join(lacking)}',
                hint=f"see the protocol in {self.group}",
            )
        return found


@functools.cache
def _entries(group: str, places: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group in the packages of `places`; looking through them all takes a few milliseconds."""
    return tuple(entry_points(group=group))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


SOURCES = Registry(
    "source",
    "lhq.sources",
    {
        "unsplash": "lhq.sources.unsplash:Unsplash",
        "flickr": "lhq.sources.flickr:Flickr",
        "folder": "lhq.sources.folder:Folder",
        "unsplash_dataset": "lhq.sources.unsplash_dataset:UnsplashDataset",
        "commons": "lhq.sources.commons:Commons",
    },
    ("name", "rights", "limits", "settings_class", "search"),
)
"""Built as `Class(settings, client)`."""

MEASURES = Registry(
    "measure",
    "lhq.measures",
    {
        "size": "lhq.measures.size:Size",
        "duplicates": "lhq.measures.duplicates:Duplicates",
        "objects": "lhq.measures.objects:Objects",
        "outliers": "lhq.measures.outliers:Outliers",
        "connectability": "lhq.measures.connectability:Connectability",
        "text": "lhq.measures.text:Text",
        "command": "lhq.measures.command:Command",
    },
    ("name", "schema", "lane", "version", "rows", "judged", "settings_class", "prepare", "measure", "judge"),
)
"""Built as `Class(settings)`."""

ENGINES = Registry(
    "engine", "lhq.engines", {"local": "lhq.engines.local:Local", "ray": "lhq.engines.ray:Ray"}, ("map", "shares_disk")
)
"""Built as `Class(workers, address=address)`; 0 workers: as many as there is room for."""


def open_engine(name: str, workers: int = 0, *, address: str = "", soon: str = "") -> Engine:
    """The engine of a name, ready to work.

    Args:
        workers: 0: as many as there is room for.
        address: of a cluster.
        soon: module of the jobs to come; the local engine starts loading it at once.

    Raises:
        ConfigError: the name is unknown, or the engine takes no address.
    """
    if name == "local":
        return Local(workers, address=address, soon=soon)
    engine: Engine = ENGINES.load(name, "engine")(workers, address=address)
    return engine


class SourceRights(Mapping[str, Rights]):
    """What each source's terms allow, by source name; sources are imported on first use."""

    def __getitem__(self, name: str) -> Rights:
        if name in importing.RIGHTS and name not in SOURCES.names():
            return importing.RIGHTS[name]
        if name not in SOURCES.names():
            raise KeyError(name)
        rights: Rights = SOURCES.load(name).rights
        return rights

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*SOURCES.names(), *importing.RIGHTS]))

    def __len__(self) -> int:
        return len(list(iter(self)))


def open_measure(name: str, settings: MeasureSettings) -> Measure[Any]:
    """The measure of a `[filter.NAME]` table; of `[filter.command.NAME]` by `command.NAME`."""
    family, _, own = name.partition(".")
    kind = MEASURES.load(family)
    opened: Measure[Any] = kind(settings, own) if own else kind(settings)
    return opened
