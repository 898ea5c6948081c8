"""Write a file so that it has its final name if and only if it is complete, on a local disk or an object store.

A local file is written under a temporary name, synced and renamed. Object stores need no rename, since an upload
becomes visible only when it completes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
import uuid
from collections.abc import Callable
from typing import IO, Any

import fsspec.spec

from lhq.errors import StoreError
from lhq.store.remote import disable_progress_bars, is_local, translate_errors
from lhq.system import sync_folder

_PARTIAL = re.compile(r"(.+)\.([0-9a-f]{8})([0-9a-f]{8})\.part")
_OLD_PARTIAL = re.compile(r".+\.parquet\.[0-9a-f]{8}\.part")


def write_atomically(fs: Any, path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it has its name if and only if it is complete.

    Args:
        write: writes the content to an open file.

    Raises:
        StoreError: it can't be written; nothing is left behind.
    """
    local = is_local(fs)
    temporary = _temporary_path(path) if local else path
    try:
        if local:
            os.makedirs(posixpath.dirname(path), exist_ok=True)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(posixpath.dirname(path))
        else:
            with translate_errors(path):
                _upload(fs, path, write)
    except OSError as error:
        if local:
            _delete_if_exists(temporary)
        raise StoreError(f"{path}: can't be written ({error})", hint="free space or choose another store") from error
    except BaseException:
        if local:
            _delete_if_exists(temporary)
        raise


def delete_partial_files(folder: str) -> None:
    """Delete the temporary files in a local folder that killed runs of `write_atomically` left."""
    for name in os.listdir(folder):
        if partial_file_of(path := os.path.join(folder, name)):
            os.unlink(path)


def partial_file_of(path: str) -> str:
    """If `path` is a temporary file of a killed `write_atomically`: the name of the file it was writing, else "".

    Any program may use the suffix `.part`. Ours is preceded by eight random hex digits and a checksum of them and the
    name. Versions without that checksum are recognised by the first bytes of a Parquet file.
    """
    if os.path.islink(path) or not os.path.isfile(path):
        return ""
    name = os.path.basename(path)
    if (match := _PARTIAL.fullmatch(name)) and match[3] == _checksum(match[1], match[2]):
        return match[1]
    if not _OLD_PARTIAL.fullmatch(name):
        return ""
    with open(path, "rb") as file:
        return name.rsplit(".", 2)[0] if file.read(4) == b"PAR1" else ""


def _temporary_path(path: str) -> str:
    digits = uuid.uuid4().hex[:8]
    return f"{path}.{digits}{_checksum(posixpath.basename(path), digits)}.part"


def _checksum(name: str, digits: str) -> str:
    return hashlib.sha256(f"lhq {name} {digits}".encode()).hexdigest()[:8]


def _upload(fs: Any, path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write an object. Closing publishes it, so it must not be closed if writing fails."""
    disable_progress_bars(fs)
    file = fs.open(path, "wb")
    try:
        write(file)
    except BaseException:
        if isinstance(file, fsspec.spec.AbstractBufferedFile):
            file.closed = True  # otherwise garbage collection would publish the incomplete object
            with contextlib.suppress(Exception):  # the write's own error counts; leftover parts only take space
                file.discard()
        raise
    file.close()


def _delete_if_exists(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
