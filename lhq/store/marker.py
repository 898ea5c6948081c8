"""A folder's marker file: `.lhq.json` lists the files that lhq wrote, each with a fingerprint of its content.

Names prove nothing: a folder with a name of ours may be somebody else's. Only files that the marker lists, and that
still have the same content, are ever moved, replaced or deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import fsspec

from lhq.store.atomic_file import write_atomically

NAME = ".lhq.json"
_EDGE_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Contents:
    """The files of a folder, as relative paths: `ours` and `foreign` ones. `changed` are the foreign ones that the
    marker lists with other content."""

    ours: frozenset[str]
    foreign: frozenset[str]
    changed: frozenset[str]

    def foreign_entries(self) -> set[str]:
        """Top-level entries that hold foreign files."""
        return {path.split("/")[0] for path in self.foreign}


def fingerprint(path: str) -> str:
    """A hash of a file's size and its first and last 64 KiB, which include a Parquet file's footer."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        digest.update(file.read(_EDGE_BYTES))
        if size > _EDGE_BYTES:
            file.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def begin(folder: str, kind: str) -> None:
    """Mark a folder that will be written; until `finish`, its contents are ours to discard."""
    if not os.path.lexists(os.path.join(folder, NAME)):
        _write(folder, {"made_by": "lhq", "kind": kind, "is_whole": False, "files": {}})


def finish(folder: str, kind: str, files: Iterator[str]) -> None:
    """Mark a folder as complete: `files` (relative paths) are ours, with their present content."""
    fingerprints = {name: fingerprint(os.path.join(folder, name)) for name in sorted(files)}
    _write(folder, {"made_by": "lhq", "kind": kind, "is_whole": True, "files": fingerprints})


def read(folder: str, kind: str) -> Mapping[str, str] | None:
    """Relative path → fingerprint of the files we wrote into a complete folder; {} if it is incomplete; None if there
    is no marker of this kind."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            record = json.load(file)
        if record["made_by"] == "lhq" and record["kind"] == kind:
            return {str(name): str(value) for name, value in record["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def contents(folder: str, marked: Mapping[str, str]) -> Contents:
    """Divide a folder's files into ours, as the marker lists them, and foreign ones; links are foreign."""
    ours, foreign, changed = {NAME}, set(), set()
    for path in files_below(folder):
        if path == NAME:
            continue
        full_path = os.path.join(folder, path)
        if path in marked and not os.path.islink(full_path) and fingerprint(full_path) == marked[path]:
            ours.add(path)
        else:
            foreign.add(path)
            if path in marked:
                changed.add(path)
    return Contents(frozenset(ours), frozenset(foreign), frozenset(changed))


def files_below(folder: str) -> list[str]:
    """Relative paths of all files, links and empty folders below a folder, sorted."""
    paths = []
    for directory, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        relative = os.path.relpath(directory, folder)
        paths += [os.path.normpath(os.path.join(relative, name)) for name in [*names, *links]]
        if not folders and not names and relative != ".":
            paths.append(relative)
    return sorted(paths)


def delete(folder: str, ours: frozenset[str]) -> None:
    """Delete these files of a folder, then its empty subfolders, and the folder itself if nothing is left."""
    for path in sorted(ours):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, path))
    for directory, _, _ in sorted(os.walk(folder), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(directory)


def _write(folder: str, record: dict[str, object]) -> None:
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    write_atomically(fsspec.filesystem("file"), os.path.join(folder, NAME), lambda sink: sink.write(text.encode()))
