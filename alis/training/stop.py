"""Signals → a request to stop, so that the loop can save a snapshot before it exits.

SIGTERM (kill, or Slurm at the end of a job) and SIGUSR1 (Slurm's warning, `--signal=USR1@120`) save and exit with
code 0. Ctrl-C saves and exits with 130; a second Ctrl-C (not the copy that torchrun forwards) exits at once.
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
_ECHO_S = 1.0  # torchrun forwards Ctrl-C to processes that already got it from the terminal


@dataclass
class StopRequest:
    """Whether a signal has asked to stop."""

    is_made: bool = False
    is_by_hand: bool = False
    at: float = 0.0

    def terminate(self, *_: object) -> None:
        """Handle SIGTERM or SIGUSR1."""
        self.is_made = True

    def interrupt(self, *_: object) -> None:
        """Handle Ctrl-C."""
        if self.is_by_hand and time.monotonic() - self.at > _ECHO_S:
            raise KeyboardInterrupt
        if not self.is_by_hand:
            log.info("stopping: a snapshot is saved first; Ctrl-C again stops at once")
            self.is_made, self.is_by_hand, self.at = True, True, time.monotonic()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Handle stop signals inside the block; outside the main thread, which alone gets signals, do nothing."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    wanted: dict[signal.Signals, Callable[..., None]] = {
        signal.SIGTERM: request.terminate,
        signal.SIGINT: request.interrupt,
    }
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        wanted[signal.SIGUSR1] = request.terminate
    before = {which: signal.getsignal(which) for which in wanted}
    for which, ours in wanted.items():
        if before[which] is not signal.SIG_IGN:  # a shell's background job ignores Ctrl-C, and must continue to
            signal.signal(which, ours)
    try:
        yield request
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
