"""Existing collections (LSUN's LMDB, folders, zips) → photos in the store's shards, with papers.

The user states the licence and provenance of a collection's photos (`Papers`), for all of them or photo by photo in a
table; photos without are refused. The id of an imported photo is made of the collection's name and the photo's path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lhq import nearest
from lhq.errors import FetchError, ImageError, InputError
from lhq.intake import RIGHTS_COLUMNS, Destination, Intake, StoredPhoto, intake
from lhq.intake.papers import Papers, printable
from lhq.progress import OnProgress, silent
from lhq.records import Candidate
from lhq.rights.licences import Rights
from lhq.rights.policy import Policy

MAX_BYTES = 256 * 2**20
_NO_PICTURES = {".json", ".txt", ".md", ".csv", ".tsv", ".html", ".sha256", ".db", ".ini"}

# Source name → what may be done with its photos, for sources that no pipeline table names.
RIGHTS = {
    "lsun": Rights("non-commercial", "no", "no", "LSUN: photos of unknown authors, gathered for research only"),
    "zip": Rights("user", "user", "user", "An imported archive: the word of whoever imported it"),
    "folder": Rights("user", "user", "user", "An own folder: the word of its owner"),
}

Entry = tuple[str, Callable[[], bytes]]
"""(a photo's name in its collection, a function that reads its bytes or raises ImageError or FetchError)."""


@dataclass
class ImportReport:
    """The result of an import. `failed` maps names to reasons; `conflicts` maps names that the store holds with other
    bytes or papers to the difference."""

    new: int = 0
    held: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """A collection of photos with their papers.

    `source` is `lsun`, `zip` or `folder`; `name` is part of every id; `total` is the number of photos, 0 if unknown.
    """

    source: str
    name: str
    entries: Iterator[Entry]
    papers: Papers
    total: int = 0


def import_collection(
    collection: Collection, destination: Destination, on_progress: OnProgress = silent, *, policy: Policy | None = None
) -> ImportReport:
    """Import a collection's photos into a store; run again after an interruption, it goes on.

    Args:
        policy: reservations to honour and deny list; None: honour every reservation.

    Raises:
        InputError: a photo's licence is not stated, or there are no photos.
        StoreError: the store can't be written, or a crawl is running on it.
    """
    report = ImportReport()
    with intake(destination, policy=policy) as opened:
        for name, read in collection.entries:
            candidate = collection.papers.of(collection.source, collection.name, name)
            try:
                if opened.has(candidate.id):
                    if differs := _difference(opened, candidate, read):
                        report.conflicts[printable(name)] = differs
                    else:
                        report.held += 1
                else:
                    opened.add(candidate, read())
                    report.new += 1
            except (ImageError, FetchError) as error:
                report.failed[printable(name)] = f"{error.reason}: {error.message}"
            done = report.new + report.held + len(report.failed) + len(report.conflicts)
            on_progress(f"importing {collection.name}", done, collection.total)
    if not (report.new or report.held or report.failed or report.conflicts):
        raise InputError(
            f"{collection.name}: holds no pictures", hint="look whether it is the right place, and unpacked"
        )
    return report


def _difference(opened: Intake, candidate: Candidate, read: Callable[[], bytes]) -> str:
    """The difference between a photo to import and the store's photo of the same id; "" if there is none, or if the
    photo was taken down."""
    held = opened.held.get(candidate.id)
    if held is None:
        return ""
    found = hashlib.sha256(read()).hexdigest()
    if found != held.sha256:
        return f"its sha256 is {found}, {candidate.id} has {held.sha256}"
    given = StoredPhoto.of(found, dataclasses.asdict(candidate))
    other = [
        f'{name} "{of_given}", {candidate.id} has "{of_held}"'
        for name, of_given, of_held in zip(RIGHTS_COLUMNS, given.papers, held.papers, strict=True)
        if of_given != of_held
    ]
    return f"its papers say {'; '.join(other)}" if other else ""


def lsun(path: str) -> tuple[int, Iterator[Entry]]:
    """Open an LSUN LMDB folder such as `tower_train_lmdb`, whose values are JPEG or WebP files: (number, photos).

    Raises:
        InputError: it is not an LMDB folder, or the lmdb package is not installed.
    """
    try:
        lmdb = importlib.import_module("lmdb")
    except ImportError:
        raise InputError("LSUN is read with the lmdb package", hint='pip install "lhq[lsun]"') from None
    if not os.path.isfile(os.path.join(path, "data.mdb")):
        raise InputError(f"{path}: no LMDB (no data.mdb)", hint="give the unzipped folder, e.g. tower_train_lmdb")
    try:
        # Without `lock` a read-only disk will do; no `readahead` for one pass over more data than memory.
        database = lmdb.open(path, readonly=True, lock=False, readahead=False, max_readers=1)
        num = int(database.stat()["entries"])
    except lmdb.Error as error:
        raise InputError(f"{path}: can't be opened as LMDB ({error})", hint="fetch it again") from error

    def walk() -> Iterator[Entry]:
        try:
            with database.begin(buffers=False) as transaction:
                for key, value in transaction.cursor():
                    yield key.decode("utf-8", "backslashreplace"), partial(bytes, value)
        except lmdb.Error as error:
            raise InputError(f"{path}: damaged ({error})", hint="fetch it again") from error
        finally:
            database.close()

    return num, walk()


def folder(path: str) -> tuple[int, Iterator[Entry]]:
    """Open a folder with its subfolders: (number, photos by relative path). Links are not followed.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{path}: no such folder", hint=nearest.path(path, "give a folder of pictures"))
    names = sorted(
        os.path.relpath(os.path.join(at, name), path)
        for at, _, files in os.walk(path)
        for name in files
        if _may_be_picture(name) and not os.path.islink(os.path.join(at, name))
    )

    def read(name: str) -> bytes:
        try:
            if (root / name).stat().st_size > MAX_BYTES:
                raise _too_large((root / name).stat().st_size)
            return (root / name).read_bytes()
        except OSError as error:
            raise FetchError(str(error), hint="mend its permissions", reason="unreadable", permanent=True) from error

    return len(names), ((name, partial(read, name)) for name in names)


def archive(path: str) -> tuple[int, Iterator[Entry]]:
    """Open a zip, such as LHQ's published ones or StyleGAN's with a dataset.json: (number, photos).

    Members are read into memory; nothing is extracted to disk.

    Raises:
        InputError: it is not a zip.
    """
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: can't be opened as a zip ({error})", hint="fetch it again") from error
    members = [one for one in file.infolist() if not one.is_dir() and _may_be_picture(one.filename)]

    def read(member: zipfile.ZipInfo) -> bytes:
        if member.file_size > MAX_BYTES:
            raise _too_large(member.file_size)
        try:
            with file.open(member) as opened:
                data = opened.read(MAX_BYTES + 1)
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise FetchError(str(error), hint="fetch the zip again", reason="unreadable", permanent=True) from error
        except Exception as error:  # zlib.error and lzma.LZMAError have no common base
            raise FetchError(str(error), hint="fetch the zip again", reason="unreadable", permanent=True) from error
        if len(data) > MAX_BYTES:
            raise _too_large(len(data))
        return data

    return len(members), ((member.filename, partial(read, member)) for member in members)


def _may_be_picture(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    hidden = [part for part in parts if part.startswith((".", "__MACOSX")) and part.strip(".")]
    return not hidden and (os.path.splitext(name)[1].lower() not in _NO_PICTURES)


def _too_large(size: int) -> FetchError:
    return FetchError(f"{size:,} bytes", hint="no photo is that large", reason="too-large", permanent=True)
