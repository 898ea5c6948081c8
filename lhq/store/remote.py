"""A store in a bucket: whether it is there is said before any work, and a read outlives a broken answer.

Libraries of buckets raise errors of their own (botocore's, aiohttp's), few of them an OSError. None of them leaves
this file: they are a `StoreError` with the address, or the answer is asked for again.
"""

from __future__ import annotations

import contextlib
import io
import logging
import posixpath
import time
from collections.abc import Iterator
from typing import Any

import fsspec

from lhq.errors import LhqError, StoreError

logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # or it writes a traceback beside each error it raises

ATTEMPTS = 4
_DELAY_S = 0.2
_PROBE = ".lhq-may-write"
_CHECK = "check its address, its permissions or credentials, and the network"
_SKEWED = "The difference between the request time"  # how S3 and Google's own say that signatures are of another time


def is_local(fs: Any) -> bool:
    """Whether a filesystem is this machine's own."""
    return "file" in _kinds(fs)


def _kinds(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def fresh(fs: Any) -> Any:
    """A filesystem that has forgotten what it listed: others write to a bucket too, and a size that was true a minute
    ago cuts a file short."""
    if not is_local(fs):
        fs.invalidate_cache()
    return fs


def names(fs: Any, folder: str, store: str = "") -> list[str]:
    """Names in a folder as it is now, ascending; none where it isn't there. Objects that only stand for a folder (their
    names end in `/`) are no files of it.

    Raises:
        StoreError: `store`, or the folder, can't be looked into.
    """
    try:
        with translated(store or folder):
            found = fresh(fs).ls(folder, detail=False)
    except FileNotFoundError:
        return []
    inside = {posixpath.basename(path.rstrip("/")) for path in found if path.strip("/") != folder.strip("/")}
    return sorted(inside)


def draw_no_bars(fs: Any) -> None:
    """Keep the Hub's library from drawing a bar for every object written, over ours and into logs."""
    if "hf" in _kinds(fs):
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()


def check(store: str, *, writes: bool = False) -> None:
    """Ask a bucket whether it is there and we may look into it; nothing is asked of a folder.

    Args:
        writes: the work will write: put an object there and delete it. Not on the Hub, where that is a commit.

    Raises:
        StoreError: there is no such bucket, the credentials are missing or refused, or nobody answers.
    """
    fs, root = fsspec.core.url_to_fs(store)
    if is_local(fs):
        return
    kinds = _kinds(fs)
    bucket = "/".join(root.split("/")[: 3 if "hf" in kinds else 1])  # hf: its kind, owner and name
    try:
        with translated(store):
            if "s3" in kinds:
                _list(fs, store, bucket, root[len(bucket) :].strip("/"))
            elif kinds & {"gs", "hf"}:
                fs.info(bucket)
            else:
                fs.exists(root)
    except FileNotFoundError:
        raise StoreError(f"{store}: there is no bucket {bucket}", hint="make it, or correct the address") from None
    if writes and kinds & {"s3", "gs"}:
        _write(fs, store, f"{root.rstrip('/')}/{_PROBE}")


def _list(fs: Any, store: str, bucket: str, folder: str) -> None:
    """Ask S3 for one name. Not for the bucket's head, whose refusal has no words, and which any page would pass."""
    said = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{folder}/" if folder else "", MaxKeys=1)
    if not said.keys() & {"Name", "Prefix", "KeyCount", "MaxKeys", "Contents"}:
        kind = said.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "nothing")
        raise StoreError(
            f"{store}: what answers there is no bucket (it sent {kind})",
            hint="check AWS_ENDPOINT_URL, and that no login page stands between",
        )


def _write(fs: Any, store: str, path: str) -> None:
    try:
        fs.pipe_file(path, b"")
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        hint = "give its user the right to write, or another store"
        raise StoreError(f"{store}: can't be written ({type(error).__name__}: {said})", hint=hint) from error
    with contextlib.suppress(Exception):  # where nobody may delete, an empty object stays
        fs.rm_file(path)


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Errors of a bucket's library as a StoreError that names the place; what is not there stays FileNotFoundError.

    Raises:
        StoreError: anything else.
    """
    try:
        yield
    except (LhqError, FileNotFoundError):
        raise
    except Exception as error:
        raise told(place, error) from error


def told(place: str, error: BaseException) -> StoreError:
    """The error that stands for one of a bucket's library."""
    said = " ".join(str(error).split())[:300]
    hint = "set this machine's clock: keys are refused at a wrong time" if _SKEWED in said else _CHECK
    return StoreError(f"{place}: can't be reached ({type(error).__name__}: {said})", hint=hint)


def delete(fs: Any, path: str) -> None:
    """Delete one file.

    Raises:
        StoreError: we may not.
    """
    try:
        with translated(path):
            fs.rm_file(path)
    except StoreError as error:
        if isinstance(error.__cause__, PermissionError):
            hint = "give its user the right to delete"
            raise StoreError(f"{path}: can't be deleted ({error.__cause__})", hint=hint) from error
        raise


def open_file(fs: Any, path: str) -> Any:
    """An object, open for reading; what breaks off on the way is asked for again.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it can't be opened.
    """
    if is_local(fs):
        return fs.open(path, "rb")
    return io.BufferedReader(_Steady(fresh(fs), path), 64 * 2**10)


class _Steady(io.RawIOBase):
    """One object by ranges: each is asked for until it comes whole, `ATTEMPTS` times at most."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__()
        self._fs, self._path, self._at = fs, path, 0
        with translated(path):
            self._size = int(fs.info(path)["size"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        data = self._range(self._at, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        problem: BaseException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(_DELAY_S * 2**attempt)
            try:
                data = bytes(self._fs.cat_file(self._path, start=start, end=end))
            except FileNotFoundError:
                raise
            except Exception as error:
                problem = error
                continue
            if len(data) == end - start:
                return data
            problem = EOFError(f"{len(data):,} bytes of {end - start:,} came")
        assert problem is not None
        raise told(self._path, problem) from problem
