"""Files of a dataset → a fingerprint of their bytes, read again only when a file has changed.

A catalogue's own fingerprint knows sizes and rows, which is enough to go on training; figures need to know that
pictures of equal size were changed. A local file is hashed once and remembered by what its filesystem says of it
(device, inode, size, times of change to the nanosecond), as git's index does. A remote one is known by what its
service says: an ETag, a checksum, a version.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alis.data.catalogue import Catalogue
from alis.errors import DataError

_SETTLED_S = 2.0  # a file that was just written may be written again within one tick of its filesystem's clock


def cache_folder() -> Path:
    """$ALIS_CACHE, else ~/.cache/alis."""
    return Path(os.environ.get("ALIS_CACHE") or Path.home() / ".cache" / "alis")


def content_fingerprint(catalogue: Catalogue) -> str:
    """16 hex digits that change with any byte of the dataset's files, their names and their order.

    Raises:
        DataError: a file is gone or out of reach.
    """

    def known(name: str) -> str:
        try:
            return catalogue.stamp(name) or _hashed(Path(name))
        except Exception as error:  # each remote filesystem has its own tree of errors
            if isinstance(error, MemoryError):
                raise
            raise DataError(f"{name}: can't be read ({error})", hint="fetch or export the dataset again") from error

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(known, catalogue.files))
    whole = hashlib.sha256()
    for name, part in zip(catalogue.files, parts, strict=True):
        whole.update(f"{name.rpartition('/')[2]} {part}\n".encode())
    return whole.hexdigest()[:16]


def _hashed(path: Path) -> str:
    """The hash of a local file, remembered if the file was not changed just now."""
    about = path.stat()
    stamp = [about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
    note = cache_folder() / "content" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]}.json"
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return str(kept["hash"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # not yet hashed, or a note that says nothing
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - about.st_ctime < _SETTLED_S:
        return found
    part = note.with_suffix(f".{os.getpid()}.part")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"path": str(path), "stamp": stamp, "hash": found}), encoding="utf-8")
        os.replace(part, note)
    except OSError:
        part.unlink(missing_ok=True)  # then it is hashed again the next time
    return found
