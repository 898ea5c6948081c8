"""The body of an answer: read whole under a cap, and decoded whole or refused.

Half a body is never a success: a length that is not reached, a chunk that is missing and a packed stream without its
end are all errors. Names that are not content codings (some servers write `none`, `utf-8` or `binary`) are ignored.
Source: IANA's registry of HTTP content codings.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

import urllib3

from lhq.http.answer import failure, too_large
from lhq.http.guard import Target, clean

UNKNOWN_LENGTH = 8 * 2**20
_BLOCK = 128 * 1024
_MOST_CODINGS = 3
# Every name of the registry that changes the bytes and is not decoded here.
_NOT_DECODED = {
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "exi",
    "pack200-gzip",
    "x-compress",
    "zstd",
}
_DECODED = {"gzip", "x-gzip", "deflate"}


class Budget:
    """Bytes of bodies in memory at once, over all threads."""

    def __init__(self, cap: int) -> None:
        self._cap = self._free = cap
        self._changed = threading.Condition()

    def take(self, size: int, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Wait for room, until stopped; a body larger than the whole budget travels alone.

        Returns:
            what to give back.
        """
        size = min(size, self._cap)
        with self._changed:
            while self._free < size and not is_stopped():
                self._changed.wait(0.2)
            self._free -= size
        return size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


def read(raw: urllib3.BaseHTTPResponse, target: Target, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
    """All bytes of the answer as they were sent.

    Args:
        reserve: called with the number of bytes that memory will hold before they are read.

    Raises:
        FetchError: `too-large`, or `truncated`: fewer bytes came than were promised.
        urllib3.exceptions.HTTPError, OSError: the connection failed.
    """
    promised = getattr(raw, "length_remaining", None)
    if promised is not None and promised > max_bytes:
        raise too_large(target, f"{promised:,} bytes promised", max_bytes)
    reserve(promised if promised is not None else min(max_bytes, UNKNOWN_LENGTH))
    blocks: list[bytes] = []
    size = 0
    # One read of the whole length costs one allocation, and the bytes are never copied.
    while block := raw.read(_BLOCK if promised is None else max(1, promised - size), decode_content=False):
        blocks.append(block)
        size += len(block)
        if size > max_bytes:
            raise too_large(target, "more", max_bytes)
        if size == promised:
            break
    if promised is not None and size < promised:
        raise failure(target, f"{size:,} bytes of {promised:,} came", "truncated")
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def decode(data: bytes, codings: str, target: Target, max_bytes: int) -> bytes | bytearray:
    """`data` with every content coding undone.

    Args:
        codings: the Content-Encoding header.

    Raises:
        FetchError: `truncated`, `too-large`, or `bad-answer`: a coding that nobody asked for, or broken data.
    """
    names = [name.strip().lower() for name in codings.split(",")]
    refused = next((name for name in names if name in _NOT_DECODED), None)
    if refused is not None:
        raise failure(target, f"content encoding {clean(refused)!r} was not asked for", "bad-answer")
    packed = [name for name in names if name in _DECODED]
    if len(packed) > _MOST_CODINGS:
        raise failure(target, f"packed {len(packed)} times", "bad-answer")
    out: bytes | bytearray = data
    for name in reversed(packed):
        try:
            out = _inflate(out, target, max_bytes) if name == "deflate" else _gunzip(out, target, max_bytes)
        except zlib.error as error:
            raise failure(target, f"not {name} as promised ({clean(error)})", "bad-answer") from None
    return out


def _gunzip(data: bytes | bytearray, target: Target, max_bytes: int) -> bytearray:
    """All members of a gzip file; what follows the last one is ignored, as gzip does."""
    out = bytearray()
    while True:
        engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        out += _unpacked(engine, data, target, max_bytes - len(out), max_bytes)
        data = engine.unused_data
        if not data.startswith(b"\x1f\x8b"):
            return out


def _inflate(data: bytes | bytearray, target: Target, max_bytes: int) -> bytes:
    """`deflate` means zlib's format, and some servers send the bare stream."""
    try:
        return _unpacked(zlib.decompressobj(), data, target, max_bytes, max_bytes)
    except zlib.error:
        return _unpacked(zlib.decompressobj(wbits=-zlib.MAX_WBITS), data, target, max_bytes, max_bytes)


def _unpacked(engine: zlib._Decompress, data: bytes | bytearray, target: Target, room: int, max_bytes: int) -> bytes:
    out = engine.decompress(data, room + 1)
    if len(out) > room:
        raise too_large(target, "more when unpacked", max_bytes)
    if not engine.eof:
        raise failure(target, "the packed answer broke off", "truncated")
    return out
