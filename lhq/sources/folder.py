"""A folder of pictures → candidates: your own photos, read in place, with the papers that you state.

Every picture in the folder is offered once, whatever the queries; the bytes pass the same checks as photos from the
network. The rights are what you state, and every row says so.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pydantic

from lhq import nearest
from lhq.config import PathSetting
from lhq.errors import FetchError, InputError
from lhq.http import Client
from lhq.records import Candidate, Query
from lhq.rights.licences import LICENCES, Rights
from lhq.rights.permissions import Permission, from_setting
from lhq.sources import Limits, Page, Source, SourceSettings
from lhq.system import O_BINARY

PAGE_SIZE = 1000
# Every kind of picture that is recognised by its bytes; those that are not kept fail with a reason.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".hif"),
    *(".avif", ".jp2", ".j2k", ".j2c", ".jpx", ".jxl", ".psd", ".qoi"),
}


class FolderSettings(SourceSettings):
    """`[source.folder]`."""

    path: PathSetting
    """The folder; every picture below it is offered."""
    author: str = ""
    """The author in every row."""
    licence: str = "own"
    """An id of the licence table; "own" where the rights are yours."""
    permission: Permission | None = None
    """What the rights holder allows beyond the licence, where the photos are not yours."""
    per_query: int = pydantic.Field(10_000_000, gt=0)
    """Most photos taken; a folder is one query."""

    _listed = pydantic.field_validator("permission", mode="before")(from_setting)

    def stated_permission(self) -> Permission | None:
        return self.permission

    @pydantic.field_validator("licence")
    @classmethod
    def _known(cls, licence: str) -> str:
        if licence not in LICENCES:
            hint = nearest.word(licence, LICENCES, f"known: {', '.join(sorted(LICENCES))}")
            raise ValueError(f"not a known licence; {hint}")
        return licence


class Folder(Source):
    """One folder and all below it. Links to folders are not followed.

    Raises:
        InputError: it is not there, or no folder.
    """

    name = "folder"
    settings_class = FolderSettings
    settings: FolderSettings
    is_local = True
    needs_queries = False
    rights = Rights(train="user", redistribute="user", commercial="user", note="own folder: by the word of its owner")
    limits = Limits(page_size=0, calls_per_kept=0, photo_bytes=3_000_000, photos_per_s=200)

    def __init__(self, settings: FolderSettings, client: Client) -> None:
        self.settings = settings
        self._max_bytes = client.settings.max_bytes
        self._root = Path(os.path.abspath(os.path.expanduser(settings.path)))
        if not self._root.is_dir():
            raise InputError(
                f"[source.folder] path = {settings.path!r}: no such folder",
                hint=nearest.path(self._root, "give a folder of photos"),
            )

    def queries(self, asked: Sequence[Query]) -> Sequence[Query]:
        """The folder is a single query; its name changes with its files, so that new ones are noticed."""
        listing = hashlib.sha256(b"\0".join(os.fsencode(path) for path in self._paths)).hexdigest()[:8]
        return [Query(f"folder {_word(self._root.name)} {listing}")]

    def search(self, query: Query, cursor: str | None) -> Page:
        """Cursor: how many were offered before."""
        start = int(cursor or 0)
        end = start + PAGE_SIZE
        candidates = tuple(self._candidate(path, query) for path in self._paths[start:end])
        skipped = (("no picture by its name", self._num_others),) if start == 0 and self._num_others else ()
        return Page(candidates, str(end) if end < len(self._paths) else None, len(self._paths), skipped)

    def read(self, candidate: Candidate) -> bytes:
        path = os.fsdecode(unquote_to_bytes(urlsplit(candidate.url).path))
        try:
            # Open without blocking, then check the type: a pipe or a device must not stall the crawl.
            handle = os.open(path, os.O_RDONLY | _AT_ONCE)
            with open(handle, "rb") as file:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    raise _failure(candidate, "not a regular file", "not-a-file", permanent=True)
                if found.st_size > self._max_bytes:
                    raise _failure(candidate, f"{found.st_size:,} bytes", "too-large", permanent=True)
                return file.read(self._max_bytes)
        except FileNotFoundError:
            raise _failure(candidate, "the file is gone", "gone", permanent=True) from None
        except OSError as error:
            raise _failure(candidate, str(error.strerror), "unreadable", permanent=False) from None

    @property
    def _paths(self) -> list[str]:
        return self._files[0]

    @property
    def _num_others(self) -> int:
        return self._files[1]

    @functools.cached_property
    def _files(self) -> tuple[list[str], int]:
        """Relative paths of all pictures, in a fixed order; how many other files there are."""
        found, num_others = [], 0
        for folder, _, files in os.walk(self._root):
            inner = os.path.relpath(folder, self._root)
            for name in files:
                if os.path.splitext(name)[1].lower() in SUFFIXES:
                    found.append(name if inner == "." else os.path.join(inner, name))
                elif not name.startswith("."):
                    num_others += 1
        return sorted(found, key=os.fsencode), num_others

    def _candidate(self, path: str, query: Query) -> Candidate:
        full = self._root / path
        word = _word(path)
        url = full.as_uri()
        return Candidate(
            source=self.name,
            source_id=word,
            url=url,
            page_url=url,
            author=self.settings.author or "the folder's owner",
            author_url="",
            licence=self.settings.licence,
            query=query.text,
            title=word,
            **(self.settings.permission.papers() if self.settings.permission else {}),
        )


_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | O_BINARY


def _word(path: str) -> str:
    """A path as an id: itself if it is clean text, else its readable part and a hash of its bytes."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        pass
    else:
        if path.isprintable():
            return path
    readable = "".join(letter if letter.isprintable() else "?" for letter in path)
    return f"{readable}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"


def _failure(candidate: Candidate, what: str, reason: str, *, permanent: bool) -> FetchError:
    return FetchError(f"{candidate.source_id}: {what}", hint="look at that file", reason=reason, permanent=permanent)
