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

from lhq import checked_json
from lhq.errors import ShardDamaged
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
    """The recorded copies; [] if there is no record yet.

    Raises:
        ShardDamaged: the record is damaged: what it says, a takedown may rely on.
    """
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            table = json.load(file)
        listed = table if isinstance(table, list) else checked_json.opened(table)["copies"]  # older versions: a list
        return [Copy(**{**copy, "files": tuple(copy.get("files", ()))}) for copy in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ShardDamaged(
            f"{path}: not readable ({error})",
            hint="restore it, or delete it: lhq remove then lists only the exports in their usual place, and what is "
            "written from now on",
        ) from error


def record(folder: str, copy: Copy) -> None:
    """Record a copy made now, replacing an earlier entry of the same place.

    Raises:
        StoreError: it can't be written.
        ShardDamaged: as `read`.
    """
    others = [other for other in read(folder) if (other.kind, other.place) != (copy.kind, copy.place)]
    dated = replace(copy, at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    table = checked_json.sealed({"copies": [asdict(each) for each in [*others, dated]]})
    text = json.dumps(table, indent=1) + "\n"
    write_atomically(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))
