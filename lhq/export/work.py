"""The folder of rendered pictures that are not yet in data files, on this machine's disk or within reach of all nodes.

A local folder is read by system calls at no extra cost; any other address by byte ranges, one request per picture.
Only files written here are ever deleted here.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import fsspec

from lhq.errors import StoreError
from lhq.store import remote
from lhq.store.atomic_file import partial_file_of, write_atomically
from lhq.store.marker import delete, files_below
from lhq.store.remote import is_local

WANTED = "wanted"
_NAMES = re.compile(rf"{WANTED}/\d{{6}}\.parquet|\d{{6}}-\d{{4}}\.(bin|json)")
_AGAIN = "run the same command again: what is rendered is kept"


@dataclass(frozen=True)
class Work:
    """A folder by its address; picklable.

    Raises, in every reading method: FileNotFoundError if the file is missing.
    """

    address: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        fs, root = fsspec.core.url_to_fs(self.address)
        return fs, root

    @property
    def is_local(self) -> bool:
        return is_local(self._place[0])

    def path(self, name: str) -> str:
        return posixpath.join(self._place[1], name)

    def write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """A file that gets its name only when complete. Raises: StoreError, as `write_atomically`."""
        write_atomically(self._place[0], self.path(name), write)

    def read(self, name: str) -> bytes:
        if self.is_local:
            with open(self.path(name), "rb") as file:
                return file.read()
        fs, _ = self._place
        with remote.translate_errors(f"{self.address}/{name}"):
            data: bytes = fs.cat_file(self.path(name))
        return data

    def read_part(self, name: str, start: int, length: int) -> bytes:
        """Bytes `start` … `start + length` of a file."""
        if self.is_local:
            with open(self.path(name), "rb") as file:
                file.seek(start)
                return file.read(length)
        fs, _ = self._place
        with remote.translate_errors(f"{self.address}/{name}"):
            part: bytes = fs.cat_file(self.path(name), start=start, end=start + length)
        if len(part) != length:
            raise StoreError(f"{self.address}/{name}: {len(part)} of {length} bytes came", hint=_AGAIN)
        return part

    def open(self, name: str) -> IO[bytes]:
        """A small file, whole."""
        return io.BytesIO(self.read(name))

    def lacks(self) -> str:
        """Why this machine can't use the folder; "" if it can."""
        fs, root = self._place
        try:
            return "" if fs.exists(root) else f"{self.address}: not there on this machine; nodes must share the store"
        except Exception as error:  # a bucket's library has errors of its own
            return remote.store_error(self.address, error).message

    def clear(self, names: list[str]) -> None:
        """Delete the files of these names; in a local folder those of interrupted exports too."""
        fs, root = self._place
        if self.is_local:
            forget(root)
            return
        with remote.translate_errors(self.address):
            there = [self.path(name) for name in names if remote.uncached(fs).exists(self.path(name))]
            if there:
                fs.rm(there)


def is_work(folder: str, path: str) -> bool:
    """Whether a file in a variant's local work folder has the name of a render job's output, complete or partial."""
    if cut := partial_file_of(os.path.join(folder, path)):
        path = posixpath.join(posixpath.dirname(path), cut)
    return bool(_NAMES.fullmatch(path))


def forget(folder: str) -> None:
    """Delete the work in a local folder, and the folder itself where nothing else is in it."""
    if os.path.isdir(folder):
        delete(folder, frozenset(path for path in files_below(folder) if is_work(folder, path)))


def forget_all(folder: str) -> None:
    """Delete the work of every variant in a local folder of works."""
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            forget(os.path.join(folder, name))
        with contextlib.suppress(OSError):  # it holds something else
            os.rmdir(folder)
