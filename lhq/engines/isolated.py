"""Run one piece of work in its own process, so that a crash costs only that piece. So does work that never ends.

The child is a fork, so it has everything in memory and starts in milliseconds. It does its work, writes the result to a
pipe and exits without running its parent's cleanup. For use inside a worker, which has no other threads.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import sys
from collections.abc import Callable
from typing import TypeVar

from lhq.processes import LIMIT_S, Died, attempt, attempt_in_time, outcome
from lhq.system import has_fork

log = logging.getLogger("lhq")
T = TypeVar("T")


def isolated(work: Callable[[], T], limit_s: int = LIMIT_S) -> T | Died:
    """What `work` returns (it must be picklable), or how its process died; of SIGALRM if it took longer than the limit.

    Raises:
        Exception: whatever `work` raised, except for a lack of memory.
    """
    if not has_fork:
        _warn_once()
        here: T | Died = outcome(*attempt(work))
        return here
    sys.stdout.flush()
    sys.stderr.flush()
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        _work(work, limit_s, reads, writes)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        packed = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code or not packed:  # without an answer, whatever its exit code is
        return Died.of(code)
    found: T | Died = outcome(*pickle.loads(packed))
    return found


@functools.cache
def _warn_once() -> None:
    log.warning("this system can't fork: a photo that crashes its decoder costs its whole shard")


def _work(work: Callable[[], object], limit_s: int, reads: int, writes: int) -> None:
    code = 1
    try:
        os.close(reads)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # a failing allocator prints to the terminal
        packed = pickle.dumps(attempt_in_time(work, limit_s))
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(packed)
        code = 0
    finally:
        os._exit(code)
