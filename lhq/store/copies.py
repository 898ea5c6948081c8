"""A record of where this machine copied a store's photos: exports, archives, report pages, Hub repositories.

`copies.json` is next to the frontier, on the local disk, since its paths are of this machine. A takedown reads it to
list what still holds a photo.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import fsspec

from lhq.store.atomic_file import write_atomically

NAME = "copies.json"
Kind = Literal["dataset", "archives", "report", "picture", "repository"]


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy: `place` is a path or a repository's name; `at` is when it was last written (ISO 8601); `files` are
    those that a push uploaded."""

    kind: Kind
    place: str
    at: str = ""
    files: tuple[str, ...] = ()


def read(folder: str) -> list[Copy]:
    """The recorded copies; [] if the record is missing or unreadable, since it is only informative."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            return [Copy(**{**copy, "files": tuple(copy.get("files", ()))}) for copy in json.load(file)]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def record(folder: str, copy: Copy) -> None:
    """Record a copy made now, replacing an earlier entry of the same place.

    Raises:
        StoreError: it can't be written.
    """
    others = [other for other in read(folder) if (other.kind, other.place) != (copy.kind, copy.place)]
    dated = replace(copy, at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    text = json.dumps([asdict(copy) for copy in [*others, dated]], indent=1) + "\n"
    write_atomically(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))


def forget(folder: str, gone: list[Copy]) -> None:
    """Delete the entries of copies that no longer exist."""
    others = [copy for copy in read(folder) if copy not in gone]
    text = json.dumps([asdict(copy) for copy in others], indent=1) + "\n"
    write_atomically(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))
