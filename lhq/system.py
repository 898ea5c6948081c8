"""What differs between operating systems: locks, positioned reads, CPU affinity, syncing folders.

Linux has all of it, macOS no affinity, Windows neither `fcntl` nor a way to sync a folder. Only this file checks; what
is missing is done another way or reported.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

O_BINARY = getattr(os, "O_BINARY", 0)
"""For `os.open`: Windows would turn line ends otherwise."""

has_fork = hasattr(os, "fork")
_MOST_BUFFERS = 512  # in one call; POSIX promises 16, the systems that have such calls take 1024
_moving = threading.Lock()  # where a file has one position for all threads


def num_cores() -> int:
    """Cores that this process may use, where the system tells; else those that there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def lock(file: int | IO[str], *, waits: bool = False) -> None:
    """Keep an open file for this process until it is closed.

    Raises:
        BlockingIOError: another process has it, and `waits` is false.
        OSError: this system has no locks.
    """
    number = file if isinstance(file, int) else file.fileno()
    if fcntl is not None:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        return
    try:
        import msvcrt
    except ImportError:
        raise OSError("this Python has neither fcntl nor msvcrt, so nothing keeps two runs apart") from None
    at = os.lseek(number, 0, os.SEEK_CUR)
    try:
        while True:
            os.lseek(number, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(number, msvcrt.LK_LOCK if waits else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:
                if not waits:
                    raise BlockingIOError(*error.args) from None
    finally:
        os.lseek(number, at, os.SEEK_SET)


_LOCKED_BYTE = 2**30  # far behind the process number that the file holds for others to read


def lock_folder(folder: str, *, waits: bool = False) -> int:
    """A handle that keeps a folder for this process until it is closed; by a file beside it where folders can't be
    locked.

    Raises:
        OSError: as `lock`; the folder can't be opened.
    """
    handle = os.open(folder, os.O_RDONLY) if fcntl is not None else os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT)
    try:
        lock(handle, waits=waits)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make new or renamed entries of a folder survive a power cut; Windows has no call for that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_data(file: int) -> None:
    """Wait until what was written to a file survives a power cut."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(file)


def start_writing(file: int, at: int) -> None:
    """Ask that a file from `at` on be written to disk now, and that memory be freed of what is there already. Waits for
    nothing; where there is no such call, the system does both in its own time."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, at, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def common_mode(path: Path) -> Iterator[None]:
    """Give a file written to `path` inside the permissions of any new file: safetensors makes its files readable by
    their owner alone, so nobody else in a lab could open the model. If writing fails, nothing is left.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    path.chmod(mode)


def longest_name(folder: str | os.PathLike[str]) -> int:
    """Most bytes of a file's name in a folder; 255 where the system doesn't say (Windows)."""
    return os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255


def read_at(file: int, size: int, at: int) -> bytes:
    """Up to `size` bytes at a position, independent of the file's own."""
    if hasattr(os, "pread"):
        return os.pread(file, size, at)
    with _moving:
        os.lseek(file, at, os.SEEK_SET)
        return os.read(file, size)


def write_at(file: int, data: bytes | memoryview, at: int) -> int:
    """Write at a position; returns the number of bytes."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, at)
    with _moving:
        os.lseek(file, at, os.SEEK_SET)
        return os.write(file, data)


def read_parts(file: int, parts: Sequence[memoryview], at: int) -> int:
    """Fill buffers, one after the other, from a place as far as one read goes; how many bytes came. One call for many
    buffers: a thread lets go of the interpreter once, not once a buffer."""
    if hasattr(os, "preadv"):
        return os.preadv(file, parts[:_MOST_BUFFERS], at)
    data = read_at(file, len(parts[0]), at)
    parts[0][: len(data)] = data
    return len(data)


def write_parts(file: int, parts: Sequence[memoryview], at: int) -> int:
    """Write buffers, one after the other, to a place as far as one write goes; how many bytes went."""
    if hasattr(os, "pwritev"):
        return os.pwritev(file, parts[:_MOST_BUFFERS], at)
    return write_at(file, parts[0], at)


def rest(parts: Sequence[memoryview], num: int) -> list[memoryview]:
    """What is left of buffers whose first `num` bytes are done."""
    left = list(parts)
    while left and num >= len(left[0]):
        num -= len(left.pop(0))
    if left:
        left[0] = left[0][num:]
    return left
