"""One piece of work in a process of its own: what kills that process costs that piece alone.

The child is a fork, so it has everything at hand and starts in milliseconds; it does its work, writes the result into a
pipe and ends without cleaning up after its parent. For use within a worker, which has no threads of its own.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lhq.system import has_fork

log = logging.getLogger("lhq")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Died:
    """How the process ended: `SIGABRT`, `SIGKILL (no memory?)`, `exit code 3`."""

    how: str


def apart(work: Callable[[], T]) -> T | Died:
    """What `work` returns (it must survive pickling), or how the process that did it died.

    Raises:
        Exception: whatever `work` raised.
    """
    if not has_fork:
        _say_that_it_is_here()
        return work()
    sys.stdout.flush()
    sys.stderr.flush()
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        _work(work, reads, writes)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        packed = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Died(f"{name} (no memory?)" if name == "SIGKILL" else name)
    if os.WEXITSTATUS(status):
        return Died(f"exit code {os.WEXITSTATUS(status)}")
    is_done, result = pickle.loads(packed)
    if not is_done:
        raise result
    done: T = result
    return done


@functools.cache
def _say_that_it_is_here() -> None:
    log.warning("no process of its own for each photo on this system: one that kills its decoder costs its shard")


def _work(work: Callable[[], object], reads: int, writes: int) -> None:
    code = 1
    try:
        os.close(reads)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # a dying allocator speaks to the terminal
        try:
            packed = pickle.dumps((True, work()))
        except Exception as error:
            packed = pickle.dumps((False, error))
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(packed)
        code = 0
    finally:
        os._exit(code)
