"""A folder that has its name if and only if it is complete: written beside, then renamed.

`DIR.part` holds the work and survives an interruption; `DIR.old` exists only for the moment between two
renames, and is put back if that moment was the last.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lhq.errors import StoreError


def put_back(to: str) -> None:
    """Undo a replacement that was cut between its two renames; forget an old folder that is no longer needed."""
    old = f"{to}.old"
    if os.path.isdir(old):
        if os.path.exists(to):
            shutil.rmtree(old)
        else:
            os.rename(old, to)


@contextmanager
def aside(to: str) -> Iterator[str]:
    """`DIR.part`, locked against a second run; what is in it stays if the block raises.

    Raises:
        StoreError: another process writes it, or it can't be made.
    """
    path = f"{to}.part"
    try:
        os.makedirs(path, exist_ok=True)
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"{path}: can't be made ({error})", hint="choose another folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreError(f"{path}: another process writes it", hint="wait for it to end") from None
    try:
        yield path
    finally:
        os.close(handle)


def put_in_place(to: str, is_ours: Callable[[str], bool]) -> None:
    """`DIR.part` becomes `DIR`. Entries of the old `DIR` that are not ours by name (a `.git`) move along.

    Raises:
        StoreError: a rename failed; the old folder is in place, or is put back by the next run.
    """
    part, old = f"{to}.part", f"{to}.old"
    try:
        if os.path.isdir(to):
            for name in os.listdir(to):
                if not is_ours(name) and not os.path.exists(os.path.join(part, name)):
                    os.rename(os.path.join(to, name), os.path.join(part, name))
            os.rename(to, old)
        os.rename(part, to)
        parent = os.open(os.path.dirname(to), os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise StoreError(f"{to}: can't be put in place ({error})", hint="mend that and run the same again") from error
    shutil.rmtree(old, ignore_errors=True)
