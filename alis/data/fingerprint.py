"""Files of a dataset → a fingerprint of their bytes; a file is read again only if it has changed.

A catalogue's own fingerprint covers sizes and row counts, which is enough to resume training. Metrics also need to
notice that a picture was changed without changing its size. A local file is hashed once, and the hash is cached with
the file's device, inode, size and times in nanoseconds, as in git's index. For a remote file, the service's ETag,
checksum or version is used.
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
from lhq import checked_json

_SETTLED_S = 2.0  # a file that was just written may change again without changing its times


def cache_folder() -> Path:
    """The cache folder: $ALIS_CACHE, else ~/.cache/alis."""
    return Path(os.environ.get("ALIS_CACHE") or Path.home() / ".cache" / "alis")


def content_fingerprint(catalogue: Catalogue) -> str:
    """16 hex digits that change with any byte of the dataset's files, their names and their order.

    Raises:
        DataError: a file is gone or can't be reached.
    """

    def known(name: str) -> str:
        try:
            return catalogue.stamp(name) or _hashed(Path(name))
        except Exception as error:  # each remote filesystem has its own exception classes
            if isinstance(error, MemoryError):
                raise
            raise DataError(f"{name}: can't be read ({error})", hint="download or export the dataset again") from error

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(known, catalogue.files))
    whole = hashlib.sha256()
    for name, part in zip(catalogue.files, parts, strict=True):
        whole.update(f"{name.rpartition('/')[2]} {part}\n".encode())
    return whole.hexdigest()[:16]


def _hashed(path: Path) -> str:
    """The hash of a local file; cached, unless the file was changed just now."""
    about = path.stat()
    stamp = [about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
    note = cache_folder() / "content" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]}.json"
    try:
        kept = checked_json.opened(json.loads(note.read_text(encoding="utf-8")))
        if kept["stamp"] == stamp:
            return str(kept["hash"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # not hashed yet, or a damaged cache file
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - about.st_ctime < _SETTLED_S:
        return found
    part = note.with_suffix(f".{os.getpid()}.part")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        table = checked_json.sealed({"path": str(path), "stamp": stamp, "hash": found})
        part.write_text(json.dumps(table), encoding="utf-8")
        os.replace(part, note)
    except OSError:
        part.unlink(missing_ok=True)  # it is hashed again next time
    return found
