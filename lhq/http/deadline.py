"""A time limit on a whole exchange: when the time is up its connection is shut, whatever phase it is in.

A socket's own timeout starts again with every byte, so a server that drips one byte a second outlasts it: in a header
line, in the TLS handshake, in a proxy's answer. TLS also takes the descriptor away from the socket that was opened
first. So every connection keeps a `Line`, a second descriptor of the same connection, and the exchange that uses the
connection hands the line to its deadline. Shutting the line ends the connection for whoever reads from it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_LOOK_EVERY_S = 0.1


class Line:
    """A second descriptor of a connection, closed when its last holder lets go."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock.dup()
        self._num_holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            self._num_holders += 1

    def let_go(self) -> None:
        with self._lock:
            self._num_holders -= 1
            if self._num_holders == 0:
                self._sock.close()

    def shut(self) -> None:
        """End the connection; whoever waits for it wakes up."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


class Deadline:
    """The limit of one exchange. `cut` says why it was ended: "" while it runs, "late" or "stopped"."""

    def __init__(self, at: float, group: str) -> None:
        self.at, self.group = at, group
        self.cut = ""
        self.is_reused = False
        """The exchange goes over a connection that was kept from an earlier one."""
        self._lines: list[Line] = []
        self._lock = threading.Lock()

    def watch(self, line: Line) -> None:
        """Shut this connection too when the time is up."""
        with self._lock:
            if line not in self._lines:
                line.hold()
                self._lines.append(line)
            if self.cut:
                line.shut()

    def end(self, why: str) -> None:
        """Shut every connection that is watched, and every one to come."""
        with self._lock:
            if not self.cut:
                self.cut = why
                for line in self._lines:
                    line.shut()

    def forget(self) -> None:
        """The exchange is over: let its connections live."""
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            line.let_go()


class Deadlines:
    """The deadlines of all exchanges under way, and the thread that looks after them, started at first use."""

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._stopped: set[str] = set()

    @contextlib.contextmanager
    def limit(self, seconds: float, group: str = "") -> Iterator[Deadline]:
        """Limit what this thread does inside; connections find the deadline with `current`."""
        deadline = Deadline(time.monotonic() + seconds, group)
        with self._lock:
            self._open.add(deadline)
            if self._stopped & {"", group}:
                deadline.end("stopped")
            if self._thread is None or self._closed.is_set():
                self._closed = threading.Event()
                self._thread = threading.Thread(target=self._look, args=(self._closed,), name="deadlines", daemon=True)
                self._thread.start()
        self._local.deadline = deadline
        try:
            yield deadline
        finally:
            self._local.deadline = None
            with self._lock:
                self._open.discard(deadline)
            deadline.forget()

    def current(self) -> Deadline:
        """The deadline of this thread's exchange."""
        found = getattr(self._local, "deadline", None)
        assert isinstance(found, Deadline), "a connection is used outside an exchange"
        return found

    def stop(self, group: str = "") -> None:
        """End every exchange of `group` under way, and every later one; "" stands for all groups."""
        with self._lock:
            self._stopped.add(group)
            for deadline in self._open:
                if group in {"", deadline.group}:
                    deadline.end("stopped")

    def close(self) -> None:
        """End the thread; another exchange starts it again."""
        self._closed.set()

    def _look(self, closed: threading.Event) -> None:
        while not closed.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            with self._lock:
                late = [deadline for deadline in self._open if now >= deadline.at]
            for deadline in late:
                deadline.end("late")
