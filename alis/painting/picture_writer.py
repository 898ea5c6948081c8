"""Columns → one picture file of any width, resumable: the file gets its name only when it is complete.

A strip is painted from left to right, but most formats store rows. So the columns first go to a spool file of raw rows
beside the picture (`out.png.partial`, 3 bytes per pixel), and the picture is encoded from there. The spool also makes
painting resumable: a journal beside it records how many columns are on disk, and their checksum; the same command
continues from there, and paints columns again that have changed since.
The trade-off: the disk holds the raw picture for a while, so that memory never has to.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal.isal_zlib import crc32

from alis import formats
from alis.errors import InputError, RunError
from alis.formats import Pixels
from alis.progress import progress_bar
from lhq import checked_json, system

log = logging.getLogger("alis")
_SYNC_S = 2.0
_READ_BYTES = 4 * 2**20
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class WrittenStrip:
    """A written picture: its size, the columns that this run painted (the rest was resumed), and the time it took."""

    path: Path
    width_px: int
    height_px: int
    painted_px: int
    seconds: float

    @property
    def megapixels_per_second(self) -> float:
        """Megapixels painted per second, encoding included."""
        return self.painted_px * self.height_px / 1e6 / max(self.seconds, 1e-9)


class Spool:
    """Raw rows of one picture, [height, width, 3] uint8 on disk, filled from left to right and safe to interrupt."""

    def __init__(self, picture: Path, width: int, height: int, note: str) -> None:
        """Open the spool beside `picture`; continue where an earlier run with the same note stopped.

        Raises:
            InputError: the spool there belongs to another picture, or another process is writing it.
        """
        self.path = picture.with_name(picture.name + ".partial")
        self.journal = picture.with_name(picture.name + ".partial.json")
        self.width, self.height, self.note = width, height, note
        self._row_crcs = [0] * height  # of the columns so far
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | system.O_BINARY, 0o644)
        try:
            system.lock(self.fd)
            self.done_px = self._resume()
        except BlockingIOError:
            os.close(self.fd)
            raise InputError(f"{self.path}: another process is painting it", hint="wait, or give another -o") from None
        except BaseException:
            os.close(self.fd)
            raise
        self._synced_at = time.monotonic()

    def _resume(self) -> int:
        if not self.journal.exists():
            return 0
        try:
            seen = checked_json.opened(json.loads(self.journal.read_text(encoding="utf-8")))
            done, checksum = int(seen.pop("done_px")), seen.pop("columns", None)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError):
            raise InputError(f"{self.journal}: is damaged", hint=f"remove it and {self.path.name}") from None
        if seen != self._identity():
            raise InputError(
                f"{self.path}: is the unfinished part of another picture ({seen.get('note')})",
                hint="remove it and its .json, or give another -o",
            )
        if not 0 <= done <= self.width or (done and os.fstat(self.fd).st_size < (self.height - 1) * self.width * 3):
            raise InputError(f"{self.journal}: does not match its spool", hint=f"remove it and {self.path.name}")
        self._row_crcs = [self._crc_on_disk(row, done) for row in range(self.height)]
        if checksum is not None and checksum != self._checksum():  # journals of older versions have none
            log.warning("%s: its columns have changed since they were painted; they are painted again", self.path)
            self._row_crcs = [0] * self.height
            return 0
        return done

    def _crc_on_disk(self, row: int, done_px: int) -> int:
        crc, begin = 0, row * self.width * 3
        for at in range(begin, begin + done_px * 3, _READ_BYTES):
            crc = crc32(system.read_at(self.fd, min(_READ_BYTES, begin + done_px * 3 - at), at), crc)
        return crc

    def _checksum(self) -> str:
        return f"{crc32(np.array(self._row_crcs, '<u4')):08x}"

    def _identity(self) -> dict[str, object]:
        return {"note": self.note, "width_px": self.width, "height_px": self.height}

    def append(self, columns_HwC: Pixels) -> None:
        """Add columns [height, w, 3] on the right; they are synced to disk every two seconds."""
        wide = np.ascontiguousarray(columns_HwC)
        for row in range(self.height):
            _write_all(self.fd, wide[row].data, (row * self.width + self.done_px) * 3)
            self._row_crcs[row] = crc32(wide[row], self._row_crcs[row])
        self.done_px += wide.shape[1]
        if time.monotonic() - self._synced_at > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Write the columns to disk, and only then record them in the journal."""
        os.fsync(self.fd)
        part = self.journal.with_name(self.journal.name + ".new")
        table = self._identity() | {"done_px": self.done_px, "columns": self._checksum()}
        part.write_text(json.dumps(checked_json.sealed(table)), encoding="utf-8")
        os.replace(part, self.journal)
        self._synced_at = time.monotonic()

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """A rectangle of the picture, uint8 [bottom − top, right − left, 3]."""
        size = (right - left) * 3
        rows = [system.read_at(self.fd, size, (row * self.width + left) * 3) for row in range(top, bottom)]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(bottom - top, right - left, 3)

    def close(self) -> None:
        """Close the file and leave it for the next run."""
        os.close(self.fd)

    def discard(self) -> None:
        """Delete the spool once the picture is complete."""
        self.journal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def write(
    path: str | Path,
    columns: Callable[[int], Iterator[Pixels]],
    *,
    width: int,
    height: int,
    note: str,
    overwrite: bool = False,
) -> WrittenStrip:
    """Paint a strip and encode it in the format that its file name asks for.

    Args:
        columns: gives the picture's pieces [height, w, 3] from a column to its end.
        note: metadata that says how the picture was painted; stored in the file, and compared on resuming: a run
            continues only a spool with the same note.

    Raises:
        InputError: an unknown format, a size beyond its limit, too little disk space, or the file exists; raised
            before any painting.
        RunError: the disk became full; what is painted is kept, and the same call continues from there.
    """
    path = Path(path)
    form = check(path, width, height, overwrite=overwrite)
    started = time.monotonic()
    try:
        spool = Spool(path, width, height, note)
    except PermissionError:
        raise InputError(f"{path.parent}: can't be written", hint="give a folder that can be") from None
    painted = spool.done_px
    try:
        with progress_bar(f"paint {path.name}", width, "Mpx", scale=height / 1e6) as advance:
            advance(spool.done_px)
            for piece in columns(spool.done_px):
                spool.append(piece)
                advance(piece.shape[1])
        assert spool.done_px == width, f"{spool.done_px} of {width} columns were painted"
        spool.sync()
        form.encode(spool, path, note)
        spool.discard()
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise RunError(
            f"{path}: the disk is full at column {spool.done_px:,} of {width:,}",
            hint="free some space and run the same command again; what is painted is kept",
        ) from None
    except KeyboardInterrupt:
        spool.sync()
        raise
    finally:
        spool.close()
    return WrittenStrip(path, width, height, width - painted, time.monotonic() - started)


def check(path: Path, width: int, height: int, *, overwrite: bool) -> formats.Format:
    """Check that a picture of this size can be written to `path`, and return its format.

    Raises:
        InputError: an unknown format, a size beyond its limit, too little disk space, or the file exists.
    """
    form = formats.find(path)
    formats.check_size(path, width, height)
    formats.check_place(path, overwrite=overwrite)
    _check_room(path, width, height, form)
    return form


def _check_room(path: Path, width: int, height: int, form: formats.Format) -> None:
    """Raises: InputError: the disk has too little space for the picture and its spool."""
    need = int(width * height * 3 * form.disk_factor)
    have = shutil.disk_usage(path.absolute().parent).free
    partial = path.with_name(path.name + ".partial")
    if partial.exists():
        have += partial.stat().st_blocks * 512
    if need > have:
        raise InputError(
            f"{path}: a picture of {width:,} × {height} px needs up to {_size(need)} while it is made, "
            f"the disk has {_size(have)}",
            hint="free some space, or paint a narrower one",
        )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    data = data.cast("B")
    while len(data):
        written = system.write_at(fd, data, offset)
        data, offset = data[written:], offset + written
