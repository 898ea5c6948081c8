"""A time limit on a whole exchange: when it expires, its connections are shut down, in whatever phase they are.

A socket's own timeout restarts with every byte, so a server that sends one byte per second defeats it: in a header
line, in the TLS handshake, in a proxy's response. TLS also detaches the descriptor of the socket that was opened first.
So every connection has a `ConnectionHandle`, a duplicate of its descriptor, which the exchange that uses the connection
registers with its deadline. Shutting that down ends the connection for all readers.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_POLL_S = 0.1


class ConnectionHandle:
    """A reference-counted duplicate of a connection's descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock.dup()
        self._num_holders = 1
        self._lock = threading.Lock()

    def acquire(self) -> None:
        with self._lock:
            self._num_holders += 1

    def release(self) -> None:
        with self._lock:
            self._num_holders -= 1
            if self._num_holders == 0:
                self._sock.close()

    def shut_down(self) -> None:
        """Shut the connection down, waking threads that wait for it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


class Deadline:
    """The time limit of one exchange. `ended_by` is why it was aborted: "late" or "stopped"; "" while it runs."""

    def __init__(self, due_at: float, group: str) -> None:
        self.due_at, self.group = due_at, group
        self.ended_by = ""
        self.is_reused = False
        """The exchange uses a kept-alive connection."""
        self._handles: list[ConnectionHandle] = []
        self._lock = threading.Lock()

    def watch(self, handle: ConnectionHandle) -> None:
        """Shut this connection down, too, when the time is up."""
        with self._lock:
            if handle not in self._handles:
                handle.acquire()
                self._handles.append(handle)
            if self.ended_by:
                handle.shut_down()

    def end(self, reason: str) -> None:
        """Shut down all watched connections, and later ones at once."""
        with self._lock:
            if not self.ended_by:
                self.ended_by = reason
                for handle in self._handles:
                    handle.shut_down()

    def release_handles(self) -> None:
        """The exchange is over: stop watching its connections."""
        with self._lock:
            handles, self._handles = self._handles, []
        for handle in handles:
            handle.release()


class Deadlines:
    """The deadlines of all exchanges in progress, and the thread that enforces them, started on first use."""

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._stopped: set[str] = set()

    @contextlib.contextmanager
    def limit(self, seconds: float, group: str = "") -> Iterator[Deadline]:
        """Limit the time of this thread's exchange; connections find the deadline by `current`."""
        deadline = Deadline(time.monotonic() + seconds, group)
        with self._lock:
            self._open.add(deadline)
            if self._stopped & {"", group}:
                deadline.end("stopped")
            if self._thread is None or self._closed.is_set():
                self._closed = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(self._closed,), name="deadlines", daemon=True)
                self._thread.start()
        self._local.deadline = deadline
        try:
            yield deadline
        finally:
            self._local.deadline = None
            with self._lock:
                self._open.discard(deadline)
            deadline.release_handles()

    def current(self) -> Deadline:
        """The deadline of this thread's exchange."""
        deadline = getattr(self._local, "deadline", None)
        assert isinstance(deadline, Deadline), "a connection is used outside an exchange"
        return deadline

    def stop(self, group: str = "") -> None:
        """Abort exchanges of `group` in progress, and later ones; "" stands for all groups."""
        with self._lock:
            self._stopped.add(group)
            for deadline in self._open:
                if group in {"", deadline.group}:
                    deadline.end("stopped")

    def close(self) -> None:
        """End the thread; the next exchange starts it again."""
        self._closed.set()

    def _run(self, closed: threading.Event) -> None:
        while not closed.wait(_POLL_S):
            now = time.monotonic()
            with self._lock:
                late = [deadline for deadline in self._open if now >= deadline.due_at]
            for deadline in late:
                deadline.end("late")
