"""A folder's mark: `.lhq.json` lists the files that we wrote, each with a print of its content.

A name proves nothing: a folder that is called as ours would be may be somebody's work. Only what the mark lists, and
what still has the content we gave it, is ever moved, replaced or deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import fsspec

from lhq.store.shards import write_whole

NAME = ".lhq.json"
_EDGE_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Content:
    """What lies in a folder of ours, as relative paths: the files we wrote, and all others. `changed` are those of
    the others that bear a name the mark lists."""

    ours: frozenset[str]
    foreign: frozenset[str]
    changed: frozenset[str]

    def foreign_entries(self) -> set[str]:
        """First parts of the paths of files that are not ours."""
        return {path.split("/")[0] for path in self.foreign}


def print_of(path: str) -> str:
    """A print of a file's content: its size, its first and last 64 KiB. Of a Parquet file that is the whole footer."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        digest.update(file.read(_EDGE_BYTES))
        if size > _EDGE_BYTES:
            file.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def begin(folder: str, kind: str) -> None:
    """Mark a folder that is about to be filled; what it holds until `finish` is work that may be thrown away."""
    if not os.path.lexists(os.path.join(folder, NAME)):
        _write(folder, {"made_by": "lhq", "kind": kind, "is_whole": False, "files": {}})


def finish(folder: str, kind: str, files: Iterator[str]) -> None:
    """Mark a folder as whole: `files` (relative paths) are ours as they are now."""
    prints = {name: print_of(os.path.join(folder, name)) for name in sorted(files)}
    _write(folder, {"made_by": "lhq", "kind": kind, "is_whole": True, "files": prints})


def read(folder: str, kind: str) -> Mapping[str, str] | None:
    """Relative path → print of the files that we wrote into a whole folder; {} for one that is not whole; None where
    there is no mark of this kind."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            said = json.load(file)
        if said["made_by"] == "lhq" and said["kind"] == kind:
            return {str(name): str(value) for name, value in said["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def content(folder: str, listed: Mapping[str, str]) -> Content:
    """What of a folder is as the mark lists it, and what is not. Links are never followed, and never ours."""
    ours, foreign, changed = {NAME}, set(), set()
    for path in files_below(folder):
        if path == NAME:
            continue
        full = os.path.join(folder, path)
        if path in listed and not os.path.islink(full) and print_of(full) == listed[path]:
            ours.add(path)
        else:
            foreign.add(path)
            if path in listed:
                changed.add(path)
    return Content(frozenset(ours), frozenset(foreign), frozenset(changed))


def files_below(folder: str) -> list[str]:
    """Relative paths of all files and links below a folder, and of the folders that are empty, sorted."""
    found = []
    for at, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        inner = os.path.relpath(at, folder)
        found += [os.path.normpath(os.path.join(inner, name)) for name in [*names, *links]]
        if not folders and not names and inner != ".":
            found.append(inner)
    return sorted(found)


def delete(folder: str, ours: frozenset[str]) -> None:
    """Delete these files of a folder, the folders that are empty then, and the folder itself if nothing is left."""
    for path in sorted(ours):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, path))
    for at, _, _ in sorted(os.walk(folder), reverse=True):
        with contextlib.suppress(OSError):  # it holds something else
            os.rmdir(at)


def _write(folder: str, said: dict[str, object]) -> None:
    text = json.dumps(said, indent=1, sort_keys=True) + "\n"
    write_whole(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))
