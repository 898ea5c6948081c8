"""Collections that others made (LSUN's LMDB, folders, zips) → photos in the store's shards, with papers.

No papers, no photo: what a collection does not say of its photos the user states (`Papers`), for all of them or
photo by photo in a table. The id and address of an imported photo is its place in the collection.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import os
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lhq import nearest
from lhq.errors import FetchError, ImageError, InputError
from lhq.intake import Into, intake
from lhq.progress import OnProgress, silent
from lhq.records import Candidate
from lhq.rights import permissions
from lhq.rights.licences import LICENCES, Rights
from lhq.rights.policy import Policy
from lhq.text_file import read_text

MAX_BYTES = 256 * 2**20
_SHOWN = 5
_NO_PICTURES = {".json", ".txt", ".md", ".csv", ".tsv", ".html", ".sha256", ".db", ".ini"}

# Source name → what may be done with its photos, for sources that no pipeline table names.
RIGHTS = {
    "lsun": Rights("non-commercial", "no", "no", "LSUN: photos of unknown authors, gathered for research only"),
    "zip": Rights("user", "user", "user", "An imported archive: the word of whoever imported it"),
    "folder": Rights("user", "user", "user", "An own folder: the word of its owner"),
}

Entry = tuple[str, Callable[[], bytes]]
"""A photo's name in its collection, and how to read its bytes (ImageError or FetchError where that fails)."""


@dataclass(frozen=True)
class Papers:
    """What is known of the photos: `given` for all, `table` (name → columns) photo by photo, which goes first."""

    given: Mapping[str, str]
    table: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, source: str, collection: str, name: str) -> Candidate:
        """The papers of one photo.

        Raises:
            InputError: its licence is not stated, or not one that `lhq.rights.licences` knows.
        """
        row = {**self.given, **{key: value for key, value in self._row(name).items() if value.strip()}}
        place = f"{collection}/{quoted(name)}"
        licence = row.get("licence", "")
        if licence not in LICENCES:
            raise InputError(
                f'{shown(name)}: licence "{licence}"' if licence else f"{shown(name)}: no licence",
                hint=f"state it: --licence, or a column of --papers; known: {', '.join(sorted(LICENCES))}",
            )
        try:
            permission = permissions.from_columns(row)
        except ValueError as error:
            raise InputError(f"{shown(name)}: {error}", hint="mend that row of --papers") from None
        return Candidate(
            source=source,
            source_id=place,
            url=row.get("url", "") or f"{source}:{place}",
            page_url=row.get("page_url", ""),
            author=row.get("author", "").strip(),
            author_url=row.get("author_url", ""),
            licence=licence,
            query=collection,
            title=row.get("title", ""),
            description=row.get("description", ""),
            tags=tuple(row.get("tags", "").split()),
            taken_at=row.get("taken_at", ""),
            attribution=row.get("attribution", ""),
            **permission,
        )

    def has(self, name: str) -> bool:
        """Whether the table has a row for a photo."""
        return bool(self._row(name))

    def _row(self, name: str) -> Mapping[str, str]:
        """A photo's row, by its name as it stands, as its percent-encoded bytes, or with the system's other slash."""
        for known in (name, quoted(name), name.replace("/", "\\"), f"./{name}"):
            if known in self.table:
                return self.table[known]
        return {}

    def check(self, names: Sequence[str]) -> None:
        """Table and collection speak of the same photos.

        Raises:
            InputError: rows that match no photo, or photos without a row; lists the first of each.
        """
        if not self.table:
            return
        without = [shown(name) for name in names if not self.has(name)]
        spelled = {form for name in names for form in (name, quoted(name), name.replace("/", "\\"), f"./{name}")}
        unmatched = [shown(row) for row in self.table if row not in spelled]
        said = [
            f"{len(found):,} {what}: {', '.join(found[:_SHOWN])}{' …' if len(found) > _SHOWN else ''}"
            for found, what in ((unmatched, "rows of the table match no photo"), (without, "photos have no row"))
            if found
        ]
        if said:
            raise InputError(
                "; ".join(said),
                hint="mend the table's column file, or take them as they are: --allow-unmatched gives photos without a "
                "row the papers of --licence and --author",
            )


def quoted(name: str) -> str:
    """A name as part of an id: its bytes percent-encoded, whatever encoding they are in."""
    return urllib.parse.quote(name.encode("utf-8", "surrogateescape"))


def shown(name: str) -> str:
    """A name as any terminal and any JSON can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass
class ImportReport:
    """What an import did; `failed` maps names to reasons, `conflicts` names that the store holds with other bytes to
    what both hash to."""

    new: int = 0
    held: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """Photos that come together, with their papers.

    `source` is `lsun`, `zip` or `folder`, `name` is part of every id; `total` is their number, 0 if not known.
    """

    source: str
    name: str
    entries: Iterator[Entry]
    papers: Papers
    total: int = 0


def bring(
    collection: Collection, into: Into, on_progress: OnProgress = silent, *, policy: Policy | None = None
) -> ImportReport:
    """Take a collection's photos into a store; run again after any stop, it goes on.

    Args:
        policy: which reservations bind, and who is denied; None: every reservation binds.

    Raises:
        InputError: a photo's licence is not stated.
        StoreError: the store can't be written, or a crawl is at work in it.
    """
    report = ImportReport()
    with intake(into, policy=policy) as door:
        for name, read in collection.entries:
            candidate = collection.papers.of(collection.source, collection.name, name)
            try:
                if door.has(candidate.id):
                    held = door.sha256_of(candidate.id)
                    found = hashlib.sha256(read()).hexdigest() if held else ""
                    if found == held:
                        report.held += 1
                    else:
                        report.conflicts[shown(name)] = f"its sha256 is {found}, {candidate.id} has {held}"
                else:
                    door.add(candidate, read())
                    report.new += 1
            except (ImageError, FetchError) as error:
                report.failed[shown(name)] = f"{error.reason}: {error.message}"
            done = report.new + report.held + len(report.failed)
            on_progress(f"importing {collection.name}", done, collection.total)
    return report


def read_papers(path: str) -> dict[str, dict[str, str]]:
    """A table of papers, CSV, TSV or JSON lines, with a column `file`: name → its other columns.

    Raises:
        InputError: it can't be read, or has no column `file`.
    """
    try:
        file = io.StringIO(read_text(Path(path)), newline="")
        if path.endswith((".jsonl", ".ndjson")):
            rows = [json.loads(line) for line in file if line.strip()]
        else:
            head = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=max("\t;,", key=head.count), strict=True))
        table: dict[str, dict[str, str]] = {}
        for row in rows:
            name = str(row.pop("file"))
            if name in table:
                raise InputError(f'{path}: "{name}" has two rows', hint="leave one of them")
            if None in row:
                raise InputError(f'{path}: the row of "{name}" has more cells than columns', hint="quote its cells")
            table[name] = {str(key).strip(): str(value or "") for key, value in row.items()}
        return table
    except KeyError:
        raise InputError(f'{path}: no column "file"', hint="it names the photo in its collection") from None
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read ({error})", hint="give CSV, TSV or JSON lines in UTF-8") from error


def lsun(path: str) -> tuple[int, Iterator[Entry]]:
    """(number, photos) of an LSUN LMDB folder (`tower_train_lmdb`): values are JPEG or WebP files.

    Raises:
        InputError: it is none, or the lmdb package is not installed.
    """
    try:
        lmdb = importlib.import_module("lmdb")
    except ImportError:
        raise InputError("LSUN is read with the lmdb package", hint='pip install "lhq[lsun]"') from None
    if not os.path.isfile(os.path.join(path, "data.mdb")):
        raise InputError(f"{path}: no LMDB (no data.mdb)", hint="give the unzipped folder, e.g. tower_train_lmdb")
    try:
        # Without `lock` a read-only disc will do; `readahead` off: one pass over what is larger than memory.
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
    """(number, photos) of a folder and the folders below it, by relative path; links are not followed.

    Raises:
        InputError: it is none.
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
    """(number, photos) of a zip: the published LHQ ones, or StyleGAN's with a dataset.json.

    Members are read in memory by name; none becomes a path of this machine.

    Raises:
        InputError: it is no zip.
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
