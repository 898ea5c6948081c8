"""Where rendered pictures lie on their way into the data files: on this machine's disk, or where all nodes reach it.

A local folder is read by the system's own calls, which costs nothing a picture; any other address by ranges, one
request a picture. Only what was written here is ever deleted here.
"""

from __future__ import annotations

import io
import posixpath
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import fsspec

from lhq.errors import StoreError
from lhq.store.remote import is_local
from lhq.store.shards import write_whole

_AGAIN = "run the same command again: what is rendered is kept"


@dataclass(frozen=True)
class Work:
    """A folder by its address; picklable.

    Raises, in everything that reads: FileNotFoundError, where the file is not there.
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
        """A file that has its name if and only if it is complete. Raises: StoreError, as `write_whole`."""
        write_whole(self._place[0], self.path(name), write)

    def read(self, name: str) -> bytes:
        if self.is_local:
            with open(self.path(name), "rb") as file:
                return file.read()
        fs, _ = self._place
        try:
            data: bytes = fs.cat_file(self.path(name))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{self.address}/{name}: can't be read ({error})", hint=_AGAIN) from error
        return data

    def read_part(self, name: str, start: int, length: int) -> bytes:
        """Bytes `start` … `start + length` of a file."""
        if self.is_local:
            with open(self.path(name), "rb") as file:
                file.seek(start)
                return file.read(length)
        fs, _ = self._place
        try:
            part: bytes = fs.cat_file(self.path(name), start=start, end=start + length)
        except OSError as error:
            raise StoreError(f"{self.address}/{name}: can't be read ({error})", hint=_AGAIN) from error
        if len(part) != length:
            raise StoreError(f"{self.address}/{name}: {len(part)} of {length} bytes came", hint=_AGAIN)
        return part

    def open(self, name: str) -> IO[bytes]:
        """A small file, whole."""
        return io.BytesIO(self.read(name))

    def lacks(self) -> str:
        """Why this machine can't work here; "" if it can."""
        fs, root = self._place
        try:
            return "" if fs.exists(root) else f"{self.address}: not there on this machine; nodes must share the store"
        except OSError as error:
            return f"{self.address}: can't be reached ({error})"

    def clear(self, names: list[str]) -> None:
        """Delete the files of these names; a local folder whole, as all in it was made for one export."""
        fs, root = self._place
        if self.is_local:
            shutil.rmtree(root, ignore_errors=True)
            return
        there = [self.path(name) for name in names if fs.exists(self.path(name))]
        if there:
            fs.rm(there)
