"""A store's locks: a second crawl, filter or export of the same store is refused, naming the first.

A local folder is locked by the operating system, which releases the lock when the process ends, however it ends. A
bucket has no locks; there, the lock is a small object, created by an exclusive write and rewritten every `HEARTBEAT_S`
by its owner. If it wasn't rewritten for `STALE_S`, its owner is dead and the lock is taken over. Ages are measured by
the bucket's clock, against an object written just now, so machines' clocks don't matter. Without exclusive writes, only
two processes that start within the same second could both get the lock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import posixpath
import socket
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from lhq.errors import StoreError
from lhq.store.remote import is_local, uncached
from lhq.system import lock

HEARTBEAT_S = 30.0
STALE_S = 150.0
_CHECK = "check the bucket's name and your rights to it"
log = logging.getLogger("lhq")


@contextlib.contextmanager
def locked(place: str, work: str) -> Iterator[None]:
    """Hold the lock of `work` ("crawl", "filter", "export") on a store: a folder or a bucket's URL.

    Raises:
        StoreError: it is held already (names process and machine), or the store can't be written.
    """
    fs, root = fsspec.core.url_to_fs(place)
    with _folder_lock(root, work) if is_local(fs) else _bucket_lock(fs, root, work):
        yield


@contextlib.contextmanager
def _folder_lock(root: str, work: str) -> Iterator[None]:
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{work}.lock", "a+", encoding="ascii")  # noqa: SIM115, closed below
    except OSError as error:
        raise StoreError(f"{folder}: can't be written ({error})", hint="mend its permissions or give another") from None
    with file:
        try:
            lock(file)
        except BlockingIOError:
            file.seek(0)
            raise _held_error(root, work, f"process {file.read().strip() or 'unknown'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def _bucket_lock(fs: Any, root: str, work: str) -> Iterator[None]:
    path = posixpath.join(root, f"{work}.lock")
    own = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
    _acquire(fs, path, work, own)
    stopped = threading.Event()
    heartbeat = threading.Thread(target=_keep_alive, args=(fs, path, own, stopped), daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        stopped.set()
        heartbeat.join()
        # If the lock isn't ours any more, or can't be deleted, it becomes stale by itself.
        with contextlib.suppress(StoreError, OSError):
            if _owner(fs, path) == own:
                fs.rm_file(path)


def _acquire(fs: Any, path: str, work: str, own: dict[str, Any]) -> None:
    if _create(fs, path, own):
        return
    owner, age_s = _owner(fs, path), _age_s(fs, path)
    if owner and age_s < STALE_S and not _is_dead_local_process(owner):
        holder = f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'unknown')}"
        raise _held_error(path.rsplit("/", 1)[0], work, f"{holder}, last seen {age_s:.0f} s ago")
    if owner:
        log.warning("%s: its owner is gone, taken over", path)
    _write(fs, path, own)
    if _owner(fs, path) != own:
        raise _held_error(path.rsplit("/", 1)[0], work, "one that started at the same moment")


def _create(fs: Any, path: str, own: dict[str, Any]) -> bool:
    """Create the lock if there is none, by an exclusive write if the bucket supports it."""
    data = json.dumps(own).encode()
    try:
        fs.pipe_file(path, data, mode="create")
        return True
    except FileExistsError:
        return False
    except (OSError, NotImplementedError, TypeError, ValueError) as error:
        # Some stores report a failed precondition by an OSError of their own.
        if _owner(fs, path):
            return False
        if isinstance(error, PermissionError):
            raise StoreError(f"{path}: can't be written ({error})", hint=_CHECK) from error
    _write(fs, path, own)
    return _owner(fs, path) == own


def _write(fs: Any, path: str, own: dict[str, Any]) -> None:
    try:
        fs.pipe_file(path, json.dumps(own).encode())
    except OSError as error:
        raise StoreError(f"{path}: can't be written ({error})", hint=_CHECK) from error


def _owner(fs: Any, path: str) -> dict[str, Any] | None:
    """The lock's holder; None if nobody holds it. An unparsable lock has an unknown holder."""
    try:
        holder = json.loads(uncached(fs).cat_file(path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {"pid": "unknown"}
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error})", hint=_CHECK) from error
    return holder if isinstance(holder, dict) else {"pid": "unknown"}


def _age_s(fs: Any, path: str) -> float:
    """Seconds since the lock was written, by the bucket's clock."""
    probe = f"{path}.{uuid.uuid4().hex[:8]}"
    _write(fs, probe, {})
    try:
        now, then = _written_at(fs, probe), _written_at(fs, path)
    finally:
        with contextlib.suppress(Exception):  # without permission to delete, an empty object stays
            fs.rm_file(probe)
    return max((now - then).total_seconds(), 0.0) if now and then else 0.0


def _written_at(fs: Any, path: str) -> datetime | None:
    fs.invalidate_cache(path)
    try:
        modified = fs.modified(path)
    except (OSError, NotImplementedError):
        return None
    return modified if isinstance(modified, datetime) else None


def _is_dead_local_process(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that no longer exists."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, of another user
        return False
    return False


def _keep_alive(fs: Any, path: str, own: dict[str, Any], stopped: threading.Event) -> None:
    while not stopped.wait(HEARTBEAT_S):
        with contextlib.suppress(StoreError):  # if the bucket is out of reach, the work itself will fail
            if _owner(fs, path) == own:
                _write(fs, path, own)


def _held_error(place: str, work: str, owner: str) -> StoreError:
    return StoreError(f"{place}: another {work} is at work here ({owner})", hint="wait for it, or stop it")
