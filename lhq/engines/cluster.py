"""Address → the `ray` module, joined to that cluster; what Ray itself would print or retry for minutes is one error."""

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
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = b"\x04"
_SETTINGS = {
    # Ray neither sends statistics nor asks about them.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's newer default, which older versions warn about: a task without a GPU leaves CUDA_VISIBLE_DEVICES as it is.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A thread of Ray's prints what became of every worker and node, pages of it, to our standard output, which is data.
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
        wanted = address or os.environ.get("RAY_ADDRESS", "")
        refused = _refused(wanted)
        options: dict[str, Any] = {"address": wanted} if wanted else {"include_dashboard": False}
        if not refused:
            try:
                with _quiet():
                    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # ray raises what gRPC, the network or its own version check happen to raise
                refused = said_of(error)
        if refused:
            place = f"join the cluster {wanted}" if wanted else "start Ray here"
            raise ConfigError(f'engine = "ray": can\'t {place} ({refused})', hint=_hint(refused))
    return ray


def _hint(refused: str) -> str:
    if "auth" in refused.lower():
        return "set RAY_AUTH_MODE=token, and give the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
    return "give --address or RAY_ADDRESS of a running one with this Ray version, or none to start one here"


def said_of(error: BaseException) -> str:
    """Why a cluster can't be joined, on one line: what lies beneath says more than "failed to connect", and ends
    with it where that is a traceback's text."""
    text = str(error)
    if error.__cause__ is not None and (lines := str(error.__cause__).strip().splitlines()):
        text = lines[-1]
    return " ".join(text.split()).partition(" Note: ")[0][:400] or type(error).__name__


def _refused(address: str) -> str:
    """Why no cluster answers at `host:port`; "" if one does. Ray itself would retry for minutes, and wait for ever
    for a server that says nothing.

    A head speaks HTTP/2, where a client's greeting is answered by a frame of settings. Source: RFC 9113, section 3.4.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "").lower() in {"1", "true"}:
                return ""  # it would answer with a handshake
            connection.sendall(_GREETING)
            said = connection.recv(256)
    except TimeoutError:
        return f"no answer in {_CONNECT_S:.0f} s"
    except (OSError, OverflowError) as error:
        return str(error)
    if said[3:4] == _SETTINGS_FRAME:
        return ""
    first = said.split(b"\r\n")[0].decode("ascii", "replace")
    return f'what answers there is no head of a cluster (it says "{first}"); a dashboard has another port'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what Ray's C++ part writes there while it joins: a line a second where it can't."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
