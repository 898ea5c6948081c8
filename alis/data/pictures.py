"""Folder or zip of pictures → a catalogue like that of Parquet files: groups of pictures, read when needed."""

from __future__ import annotations

import hashlib
import logging
import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from alis.data.catalogue import Catalogue
from alis.errors import DataError, InputError
from lhq import nearest

log = logging.getLogger("alis")
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")
MAX_BYTES = 512 * 2**20
"""Larger files are left out."""
_GROUP = 32  # pictures per group, read at once: fewer where they are larger than this together
_GROUP_BYTES = 64 * 2**20
_ROW = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])


def is_picture(path: str) -> bool:
    """Whether a path inside a folder or zip has a picture's ending and is not hidden."""
    parts = path.strip("/").split("/")
    return parts[-1].lower().endswith(ENDINGS) and not any(part.startswith((".", "__MACOSX")) for part in parts)


@dataclass(frozen=True)
class FolderCatalogue(Catalogue):
    """Pictures as files; `group_file` is a group's first file."""

    def row_name(self, group: int, row: int, path: str | None) -> str:
        return self.files[int(self.group_file[group]) + row]

    def stamp(self, name: str) -> str | None:
        """An identifier from the filesystem's data of a picture, so that a whole folder need not be read."""
        if "file" not in self.fs.protocol:
            return str(self.fs.ukey(name))
        about = self.fs.info(name)
        return f"{about['ino']} {about['size']} {about['mtime']} {about.get('created')}"

    def rows(self, group: int) -> pa.Array:
        """The pictures of one group; a missing file's bytes are null."""
        first = int(self.group_file[group])
        names = self.files[first : first + int(self.group_rows[group])]
        return pa.array([{"bytes": self._read(name), "path": name} for name in names], _ROW)

    def _read(self, name: str) -> bytes | None:
        try:
            data: bytes = self.fs.cat_file(name)
        except FileNotFoundError:
            return None
        return data


@dataclass(frozen=True)
class ZipCatalogue(Catalogue):
    """Pictures in a zip archive; nothing is unpacked to disk."""

    members: tuple[str, ...] = ()

    def row_name(self, group: int, row: int, path: str | None) -> str:
        return f"{self.files[0]}: {self.members[int(self.group_index[group]) + row]}"

    def rows(self, group: int) -> pa.Array:
        """The pictures of one group; a damaged member's bytes are null."""
        first = int(self.group_index[group])
        with zipfile.ZipFile(self.files[0]) as archive:
            names = self.members[first : first + int(self.group_rows[group])]
            return pa.array([{"bytes": _member(archive, name), "path": name} for name in names], _ROW)


def catalogue_folder(address: str, fs: Any, files: list[str]) -> Catalogue:
    """Catalogue picture files."""
    sizes = [int(fs.size(name) or 0) for name in files]
    kept = [(name, size) for name, size in zip(files, sizes, strict=True) if 0 < size <= MAX_BYTES]
    _log_left_out(address, len(files) - len(kept))
    names = [name for name, _ in kept]
    groups = _groups(address, [posixpath.basename(name) for name in names], [size for _, size in kept])
    starts = groups["group_index"]
    return FolderCatalogue(address, fs, tuple(names), group_file=starts, **{**groups, "group_index": starts * 0})


def catalogue_zip(address: str) -> Catalogue:
    """Catalogue a zip of pictures.

    Raises:
        InputError: no such file, not a zip, or no pictures in it.
        DataError: it can't be read.
    """
    try:
        with zipfile.ZipFile(address) as archive:
            found = [info for info in archive.infolist() if is_picture(info.filename)]
    except FileNotFoundError:
        raise InputError(
            f"{address}: no such file", hint=nearest.path(address, "give a folder, a zip of pictures, or Parquet")
        ) from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InputError(f"{address}: not a readable zip ({error})", hint="download or pack it again") from None
    except OSError as error:
        raise DataError(f"{address}: can't be read ({error})", hint="check the file's permissions") from None
    if not found:
        raise InputError(f"{address}: no pictures in it", hint=f"pictures end with {', '.join(ENDINGS)}")
    kept = [info for info in found if 0 < info.file_size <= MAX_BYTES and not info.flag_bits & 1]
    _log_left_out(address, len(found) - len(kept))
    kept.sort(key=lambda info: info.filename)
    groups = _groups(address, [info.filename for info in kept], [info.file_size for info in kept])
    members = tuple(info.filename for info in kept)
    fs = fsspec.filesystem("file")
    zeros = groups["group_index"] * 0
    return ZipCatalogue(address, fs, (address,), group_file=zeros, members=members, **groups)


def _member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, KeyError, RuntimeError, EOFError, OSError, ValueError):
        return None


def _groups(address: str, names: list[str], sizes: list[int]) -> dict[str, Any]:
    """All fields of a catalogue but its files, in groups of `_GROUP` pictures; `group_index` is a group's first."""
    if not names:
        raise InputError(f"{address}: has no readable picture", hint="give a folder of photographs")
    starts = np.array(list(_group_starts(sizes)), dtype=np.int64)
    ends = np.append(starts[1:], len(names))
    totals = np.concatenate([[0], np.cumsum(np.array(sizes, dtype=np.int64))])
    digest = hashlib.sha256("".join(f"{n} {s}\n" for n, s in zip(names, sizes, strict=True)).encode())
    if len(starts) > -(-len(names) // _GROUP):  # other groups give another order
        digest.update(starts.tobytes())
    return {
        "column": "image",
        "is_struct": True,
        "group_index": starts,
        "group_rows": ends - starts,
        "group_bytes": totals[ends] - totals[starts],
        "group_start": starts * 0,
        "fingerprint": digest.hexdigest()[:16],
    }


def _group_starts(sizes: list[int]) -> Iterator[int]:
    start = held = 0
    for number, size in enumerate(sizes):
        if number == 0 or number - start == _GROUP or held + size > _GROUP_BYTES:
            yield number
            start, held = number, 0
        held += size


def _log_left_out(address: str, num: int) -> None:
    if num:
        log.warning("%s: %d files are empty, encrypted or over %d MB: left out", address, num, MAX_BYTES >> 20)
