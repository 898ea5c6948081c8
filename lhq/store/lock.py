"""One worker of a kind a store: a second crawl, filter or export of the same store is refused by name.

In a folder the lock is the kernel's and dies with its process, however that ends. A bucket has no locks, so there it is
a small object that only one can create, and that its owner writes again every `BEAT_S`; one that was not written for
`STALE_S` is a dead owner's and is taken over. Ages are told by the bucket's own clock, from the time it gave to an
object written just now, so that no machine's clock matters. A bucket that knows no exclusive writes still shows the
object to whoever comes later; only two that start within the same second can both pass.
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
from lhq.store.remote import fresh, is_local
from lhq.system import lock

BEAT_S = 30.0
STALE_S = 150.0
_CHECK = "check the bucket's name and your rights to it"
log = logging.getLogger("lhq")


@contextlib.contextmanager
def locked(place: str, work: str) -> Iterator[None]:
    """Hold the lock of `work` ("crawl", "filter", "export") on a store, a folder or a bucket's address.

    Raises:
        StoreError: it is held already (by which process of which machine), or the place can't be written.
    """
    fs, root = fsspec.core.url_to_fs(place)
    with _of_a_folder(root, work) if is_local(fs) else _of_a_bucket(fs, root, work):
        yield


@contextlib.contextmanager
def _of_a_folder(root: str, work: str) -> Iterator[None]:
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
            raise _refusal(root, work, f"process {file.read().strip() or 'unknown'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def _of_a_bucket(fs: Any, root: str, work: str) -> Iterator[None]:
    path = posixpath.join(root, f"{work}.lock")
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
    _take(fs, path, work, mine)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(fs, path, mine, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        # Not ours any more, not ours to delete, or the bucket is gone: it grows stale by itself.
        with contextlib.suppress(StoreError, OSError):
            if _owner(fs, path) == mine:
                fs.rm_file(path)


def _take(fs: Any, path: str, work: str, mine: dict[str, Any]) -> None:
    if _create(fs, path, mine):
        return
    owner, age_s = _owner(fs, path), _age_s(fs, path)
    if owner and age_s < STALE_S and not _is_dead_here(owner):
        said = f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'unknown')}"
        raise _refusal(path.rsplit("/", 1)[0], work, f"{said}, last seen {age_s:.0f} s ago")
    if owner:
        log.warning("%s: its owner is gone, taken over", path)
    _write(fs, path, mine)
    if _owner(fs, path) != mine:
        raise _refusal(path.rsplit("/", 1)[0], work, "one that started at the same moment")


def _create(fs: Any, path: str, mine: dict[str, Any]) -> bool:
    """Write the lock where there is none: by the bucket's exclusive write if it has one."""
    data = json.dumps(mine).encode()
    try:
        fs.pipe_file(path, data, mode="create")
        return True
    except FileExistsError:
        return False
    except (OSError, NotImplementedError, TypeError, ValueError) as error:
        # A precondition that failed is told by some stores as an OSError of their own.
        if _owner(fs, path):
            return False
        if isinstance(error, PermissionError):
            raise StoreError(f"{path}: can't be written ({error})", hint=_CHECK) from error
    _write(fs, path, mine)
    return _owner(fs, path) == mine


def _write(fs: Any, path: str, mine: dict[str, Any]) -> None:
    try:
        fs.pipe_file(path, json.dumps(mine).encode())
    except OSError as error:
        raise StoreError(f"{path}: can't be written ({error})", hint=_CHECK) from error


def _owner(fs: Any, path: str) -> dict[str, Any] | None:
    """Who holds the lock; None where nobody does. What can't be read counts as held by an unknown."""
    try:
        said = json.loads(fresh(fs).cat_file(path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {"pid": "unknown"}
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error})", hint=_CHECK) from error
    return said if isinstance(said, dict) else {"pid": "unknown"}


def _age_s(fs: Any, path: str) -> float:
    """Seconds since the lock was written, by the bucket's clock."""
    probe = f"{path}.{uuid.uuid4().hex[:8]}"
    _write(fs, probe, {})
    try:
        now, then = _written_at(fs, probe), _written_at(fs, path)
    finally:
        with contextlib.suppress(Exception):  # where nobody may delete, an empty object stays
            fs.rm_file(probe)
    return max((now - then).total_seconds(), 0.0) if now and then else 0.0


def _written_at(fs: Any, path: str) -> datetime | None:
    fs.invalidate_cache(path)
    try:
        found = fs.modified(path)
    except (OSError, NotImplementedError):
        return None
    return found if isinstance(found, datetime) else None


def _is_dead_here(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine and its process is gone: no need to wait then."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    if os.name == "nt":  # where signal 0 is Ctrl-C, and would be sent
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's, and alive
        return False
    return False


def _beat(fs: Any, path: str, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with contextlib.suppress(StoreError):  # a bucket out of reach: what the work itself does will say so
            if _owner(fs, path) == mine:
                _write(fs, path, mine)


def _refusal(place: str, work: str, owner: str) -> StoreError:
    return StoreError(f"{place}: another {work} is at work here ({owner})", hint="wait for it, or stop it")
