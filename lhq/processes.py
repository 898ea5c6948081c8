"""Work in processes beside this one, so that a crash costs only the piece of work that caused it.

They are forked from a clean process that has imported a module once, which takes milliseconds; where there is no fork,
they are started from scratch. Never a fork of this process: with Arrow's threads alive that can hang.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from lhq.errors import ImageError, RunError
from lhq.system import has_fork

LIMIT_S = 60
"""Of the work on one photo: decoding 200 million pixels takes seconds."""
P = ParamSpec("P")
T = TypeVar("T")


_WHY = {"SIGKILL": " (no memory?)", "SIGALRM": " (took too long)"}


@dataclass(frozen=True, slots=True)
class Died:
    """How a process ended: `SIGKILL (no memory?)`, `SIGALRM (took too long)`, `exit code 3`, `MemoryError`."""

    how: str

    @classmethod
    def of(cls, code: int) -> Died:
        """Of a process that ended before its work, by its exit code or, if negative, its signal."""
        if code >= 0:
            return cls(f"exit code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return cls(name + _WHY.get(name, ""))

    @property
    def as_image_error(self) -> ImageError:
        """The error of the photo that was decoded."""
        return ImageError(
            f"the process that decoded it died of {self.how}",
            hint="fetch it again: lhq crawl --retry-failed crashed",
            reason="crashed",
        )


NO_MEMORY = Died("MemoryError")
"""Work that found no memory: to whoever asked for it, the same as one that was killed for it."""


def attempt(work: Callable[[], object]) -> tuple[bool, object]:
    """(True, what `work` returns) or (False, what it raised), to be sent to another process."""
    try:
        return True, work()
    except Exception as error:
        return False, error


def outcome(is_done: bool, result: Any) -> Any:
    """What the other end of an `attempt` makes of it: the result, or `NO_MEMORY`.

    Raises:
        Exception: whatever the work raised, except for a lack of memory.
    """
    if is_done:
        return result
    if isinstance(result, MemoryError):
        return NO_MEMORY
    raise result


def attempt_in_time(work: Callable[[], object], limit_s: int) -> tuple[bool, object]:
    """As `attempt`, in a process of its own: it dies of SIGALRM if the work isn't done in time, whatever it is doing.
    Windows has no such signal, and waits."""
    if not hasattr(signal, "alarm"):
        return attempt(work)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limit_s)
    try:
        return attempt(work)
    finally:
        signal.alarm(0)


class HelperProcess(Generic[P, T]):
    """Calls one function in a process of its own, which starts at the first call and again after it has died.

    The function, its arguments and its result must be picklable. One thread at a time may call it.

    Args:
        soon: module that the clean process imports, if it isn't running yet.
        limit_s: a call that takes longer kills the process.
    """

    def __init__(self, work: Callable[P, T], *, soon: str = "", limit_s: int = LIMIT_S) -> None:
        self._work, self._soon, self._limit_s = work, soon, limit_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T | Died:
        """What the function returns, or how its process died.

        Raises:
            RunError: the process can't be started.
            Exception: whatever the function raised.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send((args, kwargs))
            is_done, result = pipe.recv()
        except (EOFError, ConnectionError):
            return self._ended()
        except BaseException:  # interrupted between question and answer
            self.close()
            raise
        found: T | Died = outcome(is_done, result)
        return found

    def _start(self) -> Connection:
        context = multiprocessing.get_context("forkserver" if has_fork else "spawn")
        if has_fork:
            start_fork_server(self._soon or self._work.__module__)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work, self._limit_s), daemon=True)  # type: ignore[attr-defined]
        with without_main(self._work):
            self._process.start()
        theirs.close()
        try:
            self._pipe.recv()  # it works: what ends it from now on is what it is given
        except (EOFError, ConnectionError):
            how = self._ended().how
            raise RunError(
                f"a helper process ended before it had work to do ({how})",
                hint="free some memory, and run the same command again",
            ) from None
        return self._pipe

    def _ended(self) -> Died:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode
        self.close()
        return Died.of(code or 0)

    def close(self) -> None:
        """End the process; a call starts another."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None

    def __enter__(self) -> HelperProcess[P, T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _serve(pipe: Connection, work: Callable[..., object], limit_s: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end handles Ctrl-C
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a failing allocator prints to the terminal
    with contextlib.suppress(EOFError, ConnectionError):  # the other end is gone
        pipe.send("ready")
        while True:
            args, kwargs = pipe.recv()
            pipe.send(attempt_in_time(functools.partial(work, *args, **kwargs), limit_s))


def start_fork_server(module: str) -> None:
    """Start the process that others are forked from, unless it runs: one thread, ignoring Ctrl-C from the start."""
    from multiprocessing import forkserver, resource_tracker

    forkserver.set_forkserver_preload([module])
    resource_tracker.ensure_running()  # started later, it would unblock the signal before the fork server exists
    threads, mask = os.environ.get("OMP_NUM_THREADS"), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


_main_is_hidden = threading.Lock()  # of two threads at once, the second would take the stand-in for the script


@contextlib.contextmanager
def without_main(work: object) -> Iterator[None]:
    """Processes that start meanwhile don't import the running script, unless `work` is defined in it.

    Python imports it in each of them, for functions that they may be given. A script that calls a stage at its top
    level would start that stage again, in every worker.
    """
    if "__main__" in {getattr(work, "__module__", ""), type(work).__module__}:
        yield
        return
    with _main_is_hidden:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
