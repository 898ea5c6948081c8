"""Where copies of a store's photos went from this machine: exports, archives, pages, repositories.

`copies.json` lies beside the frontier, on this machine's disk: a path of it is nobody else's business. A takedown reads
it to say what still holds a picture.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import fsspec

from lhq.store.shards import write_whole

NAME = "copies.json"
Kind = Literal["dataset", "archives", "report", "picture", "repository"]


@dataclass(frozen=True, slots=True)
class Copy:
    """One place that was given photos: `place` is a path or, of a repository, its name; `at` when last (ISO 8601);
    `files` those that a push left there."""

    kind: Kind
    place: str
    at: str = ""
    files: tuple[str, ...] = ()


def read(folder: str) -> list[Copy]:
    """The copies that were noted; those of a file that can't be read count as none, since it is a help and no law."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            return [Copy(**{**one, "files": tuple(one.get("files", ()))}) for one in json.load(file)]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def note(folder: str, copy: Copy) -> None:
    """Remember a copy made now, in the place of an earlier note of it.

    Raises:
        StoreError: it can't be written.
    """
    kept = [one for one in read(folder) if (one.kind, one.place) != (copy.kind, copy.place)]
    made = replace(copy, at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    text = json.dumps([asdict(one) for one in [*kept, made]], indent=1) + "\n"
    write_whole(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))


def forget(folder: str, gone: list[Copy]) -> None:
    """Forget copies that no longer exist."""
    kept = [one for one in read(folder) if one not in gone]
    text = json.dumps([asdict(one) for one in kept], indent=1) + "\n"
    write_whole(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))
