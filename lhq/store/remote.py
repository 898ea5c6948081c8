"""Stores in buckets: access is checked before any work, reads are retried, errors are translated.

The libraries of buckets raise errors of their own (botocore's, aiohttp's), few of which are OSErrors. None of them
leaves this file: they become a `StoreError` with the address, or the request is retried.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import posixpath
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fsspec

from lhq.errors import LhqError, StoreError

logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # without a handler, it prints a traceback for each error

ATTEMPTS = 4
CHECK_TIMEOUT_S = 60.0  # for a bucket to respond
_DELAY_S = 0.2
_PROBE = ".lhq-may-write"
_CHECK = "check its address, its permissions or credentials, and the network"
_REDIRECT_CODES = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"}
_CLOCK_SKEW_MESSAGE = "The difference between the request time"  # S3's and Google's message for a wrong clock


def is_local(fs: Any) -> bool:
    """Whether a filesystem is the local one."""
    return "file" in _kinds(fs)


def _kinds(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def uncached(fs: Any) -> Any:
    """The filesystem with its listing cache cleared: others write to a bucket too, and a stale size truncates reads."""
    if not is_local(fs):
        fs.invalidate_cache()
    return fs


def list_names(fs: Any, folder: str, store: str = "") -> list[str]:
    """Names in a folder, uncached, ascending; [] if it doesn't exist. The placeholder object of the folder itself (its
    name ends in `/`) is left out.

    Raises:
        StoreError: `store`, or the folder, can't be listed.
    """
    try:
        with translate_errors(store or folder):
            paths = uncached(fs).ls(folder, detail=False)
    except FileNotFoundError:
        return []
    entries = {posixpath.basename(path.rstrip("/")) for path in paths if path.strip("/") != folder.strip("/")}
    return sorted(entries)


def disable_progress_bars(fs: Any) -> None:
    """Turn off the Hub library's progress bars, one per object written, which would clutter ours and logs."""
    if "hf" in _kinds(fs):
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()


def check(store: str, *, writes: bool = False) -> None:
    """Check that a bucket exists and can be listed; does nothing for a local folder.

    Args:
        writes: also check write access by writing and deleting an object (not on the Hub, where that is a commit).

    Raises:
        StoreError: there is no such bucket, credentials are missing or refused, or there is no response.
    """
    fs, root = fsspec.core.url_to_fs(store)
    if not is_local(fs):
        _within(CHECK_TIMEOUT_S, store, lambda: _ask(fs, store, root, writes))


def _within(seconds: float, store: str, ask: Callable[[], None]) -> None:
    """Call `ask` with a time limit: with a server that accepts requests and never responds, the libraries of buckets
    retry for half an hour.

    Raises:
        StoreError: the time is over.
    """
    raised: list[BaseException | None] = []

    def work() -> None:
        try:
            ask()
            raised.append(None)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not raised:
        raise StoreError(f"{store}: can't be reached (no answer in {seconds:.0f} s)", hint=_CHECK)
    if raised[0] is not None:
        raise raised[0]


def _ask(fs: Any, store: str, root: str, writes: bool) -> None:
    kinds = _kinds(fs)
    bucket = "/".join(root.split("/")[: 3 if "hf" in kinds else 1])  # hf: its kind, owner and name
    try:
        with translate_errors(store):
            if "s3" in kinds:
                _check_s3_listing(fs, store, bucket, root[len(bucket) :].strip("/"))
            elif kinds & {"gs", "hf"}:
                fs.info(bucket)
            else:
                fs.exists(root)
    except FileNotFoundError:
        raise StoreError(f"{store}: there is no bucket {bucket}", hint="make it, or correct the address") from None
    if writes and kinds & {"s3", "gs"}:
        _check_write(fs, store, f"{root.rstrip('/')}/{_PROBE}")


def _check_s3_listing(fs: Any, store: str, bucket: str, folder: str) -> None:
    """List one name in S3. HEAD of the bucket would do, but its errors have no message, and any web page passes it."""
    message = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{folder}/" if folder else "", MaxKeys=1)
    if not message.keys() & {"Name", "Prefix", "KeyCount", "MaxKeys", "Contents"}:
        kind = message.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "nothing")
        raise StoreError(
            f"{store}: what answers there is no bucket (it sent {kind})",
            hint="check AWS_ENDPOINT_URL, and that no login page stands between",
        )


def _check_write(fs: Any, store: str, path: str) -> None:
    try:
        fs.pipe_file(path, b"")
    except Exception as error:
        message = " ".join(str(error).split())[:300]
        hint = "give its user the right to write, or another store"
        raise StoreError(f"{store}: can't be written ({type(error).__name__}: {message})", hint=hint) from error
    with contextlib.suppress(Exception):  # without permission to delete, an empty object stays
        fs.rm_file(path)


@contextlib.contextmanager
def translate_errors(place: str) -> Iterator[None]:
    """Translate errors of a bucket's library to a StoreError that names the place; FileNotFoundError passes unchanged.

    Raises:
        StoreError: any other error.
    """
    try:
        yield
    except (LhqError, FileNotFoundError):
        raise
    except Exception as error:
        raise store_error(place, error) from error


def store_error(place: str, error: BaseException) -> StoreError:
    """The StoreError for an error of a bucket's library."""
    if moved := _moved(error):
        hint = f"set AWS_DEFAULT_REGION to its region, and AWS_ENDPOINT_URL if it has its own ({_requested_place()})"
        return StoreError(f"{place}: can't be reached (301, {moved})", hint=hint)
    message = " ".join(str(error).split())[:300]
    hint = "set this machine's clock: keys are refused at a wrong time" if _CLOCK_SKEW_MESSAGE in message else _CHECK
    return StoreError(f"{place}: can't be reached ({type(error).__name__}: {message})", hint=hint)


def _moved(error: BaseException) -> str:
    """Where the bucket is, if the error is S3's redirect to another region or endpoint; "" for any other error."""
    if isinstance(error, RecursionError):  # the library follows a redirect without a region forever
        return "the bucket is not at this endpoint, and it doesn't say where"
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and isinstance(response.get("Error"), dict):
            details, metadata = response["Error"], response.get("ResponseMetadata", {})
            region = details.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
            if metadata.get("HTTPStatusCode") in {301, 307} or details.get("Code") in _REDIRECT_CODES:
                endpoint = f", endpoint {details['Endpoint']}" if details.get("Endpoint") else ""
                return f"the bucket is in region {region or 'unknown'}{endpoint}"
        seen = seen.__cause__ or seen.__context__
    return ""


def _requested_place() -> str:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "not set"
    return f"the request went to region {region}, endpoint {os.environ.get('AWS_ENDPOINT_URL', 'of Amazon')}"


def delete(fs: Any, path: str) -> None:
    """Delete one file.

    Raises:
        StoreError: it can't be deleted.
    """
    try:
        with translate_errors(path):
            fs.rm_file(path)
    except StoreError as error:
        if isinstance(error.__cause__, PermissionError):
            hint = "give its user the right to delete"
            raise StoreError(f"{path}: can't be deleted ({error.__cause__})", hint=hint) from error
        raise


def open_file(fs: Any, path: str) -> Any:
    """Open an object for reading, retrying reads that fail.

    Raises:
        FileNotFoundError: it doesn't exist.
        StoreError: it can't be opened.
    """
    if is_local(fs):
        return fs.open(path, "rb")
    return io.BufferedReader(_RetryingReader(uncached(fs), path), 64 * 2**10)


class _RetryingReader(io.RawIOBase):
    """Reads one object by byte ranges; each is requested up to `ATTEMPTS` times until it is complete."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__()
        self._fs, self._path, self._position = fs, path, 0
        with translate_errors(path):
            self._size = int(fs.info(path)["size"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._size)
        if end <= self._position:
            return 0
        data = self._range(self._position, end)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        last_error: BaseException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(_DELAY_S * 2**attempt)
            try:
                data = bytes(self._fs.cat_file(self._path, start=start, end=end))
            except FileNotFoundError:
                raise
            except Exception as error:
                last_error = error
                continue
            if len(data) == end - start:
                return data
            last_error = EOFError(f"{len(data):,} bytes of {end - start:,} came")
        assert last_error is not None
        raise store_error(self._path, last_error) from last_error
