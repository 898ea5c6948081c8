"""A folder → which of its files `lhq export` wrote, recognised by content alone.

Data files carry our fingerprint in their footer; pages match their hashes in `croissant.json`, which is ours if it
lists a manifest that matches and if the card holds its hash. The card ends in a hash of itself. Everything else
belongs to somebody else.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

from lhq.export import card, layout, work
from lhq.export.previous import FINGERPRINT, listed
from lhq.records import ADDED, PAPERS
from lhq.store import marker
from lhq.store.atomic_file import partial_file_of
from lhq.store.atomic_folder import AtomicFolder
from lhq.store.marker import Contents

DATASET, ARCHIVES = "dataset", "archives"
WORK = ".work"
_ARCHIVE = re.compile(r".+-(train|validation)(-\d{6})?\.(zip|tar)")


def dataset(to: str) -> AtomicFolder:
    """The folder of a dataset, and which of its files are ours."""
    return AtomicFolder.at(to, DATASET, of_dataset, keeps_mark=False)


def archives(to: str) -> AtomicFolder:
    """The folder of a dataset's archives."""
    return AtomicFolder.at(to, ARCHIVES, of_archives, keeps_mark=True)


def of_dataset(folder: str) -> Contents | None:
    """Our files in a dataset's folder, complete or unfinished; None if there are none."""
    pages = _pages(folder)
    ours = {path for path in marker.files_below(folder) if _is_ours(folder, path, pages)}
    return _content(folder, ours)


def of_archives(folder: str) -> Contents | None:
    """What of a folder of archives is ours; None if nothing is."""
    if not _is_manifest(os.path.join(folder, layout.MANIFEST)):
        return None
    copied = {layout.MANIFEST, layout.CREDITS, layout.CREDITS_SAMPLE, layout.LICENCES_PAGE}
    found = marker.files_below(folder)
    return _content(folder, {path for path in found if path in copied or _is_archive(folder, path)})


def _content(folder: str, ours: set[str]) -> Contents | None:
    foreign = frozenset(marker.files_below(folder)) - ours - {marker.NAME}
    written = {*layout.PAGES, *listed(os.path.join(folder, layout.CROISSANT))}
    return Contents(frozenset(ours | {marker.NAME}), foreign, foreign & written) if ours else None


def _is_ours(folder: str, path: str, pages: dict[str, str]) -> bool:
    full = os.path.join(folder, path)
    if os.path.islink(full):
        return False
    parts = path.split("/")
    if parts[0] == WORK:
        return len(parts) > 2 and work.is_work(os.path.join(folder, *parts[:2]), "/".join(parts[2:]))
    if cut := partial_file_of(full):
        return cut in layout.PAGES or (layout.is_data_folder(parts[0]) and bool(layout.parse_data_file(cut)))
    if len(parts) == 2 and layout.is_data_folder(parts[0]) and layout.parse_data_file(parts[1]):
        return has_fingerprint(full)
    if path in pages:
        return _sha256(full) == pages[path]
    if path == layout.CARD and pages:
        is_old = not _has_column(os.path.join(folder, layout.MANIFEST), "permits")
        return card.is_as_written(full, may_be_unsigned=is_old)
    if path != layout.CROISSANT or not pages or not os.path.isfile(full):
        return False
    return card.croissant_sha256(os.path.join(folder, layout.CARD)) in {"", _sha256(full)}


def has_fingerprint(path: str) -> bool:
    """Whether a data file says in its footer that we wrote it."""
    try:
        return FINGERPRINT.encode() in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _pages(folder: str) -> dict[str, str]:
    """Page → sha256 as `croissant.json` lists them; {} where that is not ours: it lists no manifest that hashes so."""
    found = listed(os.path.join(folder, layout.CROISSANT))
    if not found or found.get(layout.MANIFEST) != _sha256(os.path.join(folder, layout.MANIFEST)):
        return {}
    return {name: sha256 for name, sha256 in found.items() if name in layout.PAGES}


def _is_manifest(path: str) -> bool:
    return all(_has_column(path, name) for name in PAPERS if name not in ADDED)


def _has_column(path: str, name: str) -> bool:
    try:
        return name in pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return False


def _is_archive(folder: str, path: str) -> bool:
    """Named as ours, without dates, and beginning with an entry that is named as ours."""
    full = os.path.join(folder, path)
    if not _ARCHIVE.fullmatch(path) or os.path.islink(full):
        return False
    try:
        if path.endswith(".zip"):
            with zipfile.ZipFile(full) as file:
                first = file.infolist()[0]
            return bool(re.fullmatch(r"\d{5}/img\d{8}\.\w+", first.filename)) and first.date_time[0] == 1980
        with tarfile.open(full) as opened:
            entry = opened.next()
        return entry is not None and bool(re.fullmatch(r"\d{11}\.\w+", entry.name)) and entry.mtime == 0
    except (OSError, IndexError, tarfile.TarError, zipfile.BadZipFile):
        return False


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
