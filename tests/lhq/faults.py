"""A TCP proxy that spoils what a server sends, as toxiproxy does: late, cut, dripping, or never closed.

It knows nothing of what it carries, so TLS handshakes are spoilt like everything else.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType


@dataclass(frozen=True)
class Fault:
    """The faults of one connection; byte counts start at the server's first byte.

    `latency_s` before each block; after `cut_after` bytes the connection is closed, or reset; after `drip_after` bytes
    one byte comes every `every_s`; with `holds_end` the server's close is kept from the client.
    """

    latency_s: float = 0.0
    cut_after: int | None = None
    is_reset: bool = False
    drip_after: int | None = None
    every_s: float = 0.05
    holds_end: bool = False


@dataclass
class Faulty:
    """`with Faulty(server.port, Fault(...)) as between:` listens on `between.port`; `faults` go to connections in turn,
    the last one repeats."""

    upstream: int
    faults: tuple[Fault, ...] = (Fault(),)
    num_connections: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Faulty:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            fault = self.faults[min(self.num_connections, len(self.faults) - 1)]
            self.num_connections += 1
            server = socket.create_connection(("127.0.0.1", self.upstream))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(sock)
            threading.Thread(target=self._forward, args=(client, server, Fault()), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, fault), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, fault: Fault) -> None:
        num = 0
        try:
            while block := self._received(source):
                if fault.latency_s and self._closing.wait(fault.latency_s):
                    return
                if fault.cut_after is not None and num + len(block) > fault.cut_after:
                    sink.sendall(block[: max(0, fault.cut_after - num)])
                    if fault.is_reset:
                        sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        sink.close()
                    return
                whole = len(block) if fault.drip_after is None else max(0, min(len(block), fault.drip_after - num))
                sink.sendall(block[:whole])
                for at in range(whole, len(block)):
                    if self._closing.wait(fault.every_s):
                        return
                    sink.sendall(block[at : at + 1])
                num += len(block)
            if fault.holds_end:
                self._closing.wait()
        except (OSError, ValueError):  # closed by the other direction's thread
            return
        finally:
            for sock in (source, sink):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _received(self, source: socket.socket) -> bytes:
        """The next block. A thread that blocked in recv would hold the connection open, and no reset would be sent."""
        while not select.select([source], [], [], 0.05)[0]:
            if self._closing.is_set():
                return b""
        return source.recv(65536)
