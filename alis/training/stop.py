"""Signals → a request to stop, so that the loop can save before it leaves.

SIGTERM (kill, Slurm's end of a job) and SIGUSR1 (Slurm's warning, `--signal=USR1@120`) save and leave with 0. Ctrl-C
saves and leaves with 130; a second one, not the echo that torchrun sends, leaves at once.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger("alis")
_ECHO_S = 1.0  # torchrun passes Ctrl-C on to processes that the terminal has told already


@dataclass
class StopRequest:
    """What signals have said so far."""

    is_made: bool = False
    is_by_hand: bool = False
    at: float = 0.0

    def terminate(self, *_: object) -> None:
        """SIGTERM, SIGUSR1."""
        self.is_made = True

    def interrupt(self, *_: object) -> None:
        """Ctrl-C."""
        if self.is_by_hand and time.monotonic() - self.at > _ECHO_S:
            raise KeyboardInterrupt
        if not self.is_by_hand:
            log.info("stopping: a snapshot is saved first; Ctrl-C again stops at once")
            self.is_made, self.is_by_hand, self.at = True, True, time.monotonic()


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Collects signals while it lasts; in another thread than the main one, which gets none, it never asks."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    wanted: dict[signal.Signals, Callable[..., None]] = {
        signal.SIGTERM: request.terminate,
        signal.SIGINT: request.interrupt,
    }
    if hasattr(signal, "SIGUSR1"):  # Windows has no Slurm, nor its warning
        wanted[signal.SIGUSR1] = request.terminate
    before = {which: signal.getsignal(which) for which in wanted}
    for which, ours in wanted.items():
        if before[which] is not signal.SIG_IGN:  # a background job of a shell ignores Ctrl-C, and goes on doing so
            signal.signal(which, ours)
    try:
        yield request
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
