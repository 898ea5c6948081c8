"""Connect to a Ray cluster. Ray would print pages, or retry for minutes, where this raises one error."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from lhq.errors import ConfigError

_CONNECT_S = 10.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = b"\x04"
_SETTINGS = {
    # Ray neither sends statistics nor asks about them.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's newer default, which older versions warn about: a task without a GPU leaves CUDA_VISIBLE_DEVICES as it is.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A thread of Ray prints the fate of every worker and node to standard output, which is for data.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}


def join(address: str = "") -> Any:
    """The `ray` module, connected to a cluster.

    Raises:
        ConfigError: Ray is not installed, or the cluster can't be joined.
    """
    for name, value in _SETTINGS.items():  # read when ray is imported
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ConfigError('engine = "ray": Ray is not installed', hint="pip install 'lhq[ray]'") from None
    if not ray.is_initialized():
        address = address or os.environ.get("RAY_ADDRESS", "")
        problem = _probe(address)
        options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
        if not problem:
            try:
                with _silent_stderr():
                    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # ray raises whatever gRPC, the network or its own version check raise
                problem = one_line(error)
        if problem:
            place = f"join the cluster {address}" if address else "start Ray here"
            raise ConfigError(f'engine = "ray": can\'t {place} ({problem})', hint=_hint(problem))
    return ray


def _hint(problem: str) -> str:
    if "auth" in problem.lower():
        return "set RAY_AUTH_MODE=token, and give the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
    return "give --address or RAY_ADDRESS of a running one with this Ray version, or none to start one here"


def one_line(error: BaseException) -> str:
    """An error of Ray on one line; of its cause, if it has one, whose last line says more than "failed to connect"."""
    text = str(error)
    if error.__cause__ is not None and (lines := str(error.__cause__).strip().splitlines()):
        text = lines[-1]
    return " ".join(text.split()).partition(" Note: ")[0][:400] or type(error).__name__


def _probe(address: str) -> str:
    """Why no cluster is at `host:port`; "" if one is. Ray itself would retry for minutes, and wait forever for a server
    that never responds.

    A head speaks HTTP/2: it responds to a client's preface with a SETTINGS frame. Source: RFC 9113, section 3.4.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "").lower() in {"1", "true"}:
                return ""  # it would wait for a TLS handshake
            connection.sendall(_HTTP2_PREFACE)
            received = connection.recv(256)
    except TimeoutError:
        return f"no answer in {_CONNECT_S:.0f} s"
    except (OSError, OverflowError) as error:
        return str(error)
    if received[3:4] == _SETTINGS_FRAME:
        return ""
    first_line = received.split(b"\r\n")[0].decode("ascii", "replace")
    return f'what answers there is no head of a cluster (it says "{first_line}"); a dashboard has another port'


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what Ray's C++ code writes to stderr while it connects: a line per second if it can't."""
    sys.stderr.flush()
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)
