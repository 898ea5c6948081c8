"""Read and decode a response body completely within a size limit, or fail.

A partial body is an error: a length that is not reached, a missing chunk, a compressed stream without its end. Unknown
content codings (some servers send `none`, `utf-8` or `binary`) are ignored. Source: IANA's registry of HTTP content
codings.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

import urllib3

from lhq.http.guard import Target, clean
from lhq.http.response import failure, too_large

UNKNOWN_LENGTH_BYTES = 8 * 2**20
_BLOCK_BYTES = 128 * 1024
_MAX_CODINGS = 3
# The codings that change the bytes and aren't decoded here: the registry's, then others that servers are known to use.
_UNSUPPORTED_CODINGS = {
    *("aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress", "zstd"),
    *("brotli", "x-br", "x-zstd", "lzma", "x-lzma", "xz", "x-xz", "bzip2", "x-bzip2", "bz2", "lz4", "snappy", "sdch"),
}
_SUPPORTED_CODINGS = {"gzip", "x-gzip", "deflate"}


class Budget:
    """A limit, shared by all threads, on the bytes of bodies in memory."""

    def __init__(self, capacity: int) -> None:
        self._capacity = self._free = capacity
        self._changed = threading.Condition()

    def acquire(self, size: int, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Reserve `size` bytes, waiting for free capacity until stopped.

        A body larger than the whole budget waits until all of it is free.

        Returns:
            the number of bytes to release later.
        """
        size = min(size, self._capacity)
        with self._changed:
            while self._free < size and not is_stopped():
                self._changed.wait(0.2)
            self._free -= size
        return size

    def release(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


def read_body(raw: urllib3.BaseHTTPResponse, target: Target, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
    """Read the whole body as sent, still encoded.

    Args:
        reserve: called before reading, with the number of bytes to reserve in memory.

    Raises:
        FetchError: `too-large`, or `truncated`: fewer bytes than Content-Length.
        urllib3.exceptions.HTTPError, OSError: the connection failed.
    """
    content_length = getattr(raw, "length_remaining", None)
    if content_length is not None and content_length > max_bytes:
        raise too_large(target, f"{content_length:,} bytes promised", max_bytes)
    reserve(content_length if content_length is not None else min(max_bytes, UNKNOWN_LENGTH_BYTES))
    blocks: list[bytes] = []
    size = 0
    # Reading the whole length at once takes one allocation and no copy.
    while block := raw.read(
        _BLOCK_BYTES if content_length is None else max(1, content_length - size), decode_content=False
    ):
        blocks.append(block)
        size += len(block)
        if size > max_bytes:
            raise too_large(target, "more", max_bytes)
        if size == content_length:
            break
    if content_length is not None and size < content_length:
        raise failure(target, f"{size:,} bytes of {content_length:,} came", "truncated")
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def decode_body(data: bytes, content_encoding: str, target: Target, max_bytes: int) -> bytes | bytearray:
    """Undo every content coding of `data`.

    Args:
        content_encoding: the Content-Encoding header.

    Raises:
        FetchError: `truncated`, `too-large`, or `bad-answer`: a coding that we don't accept, or corrupt data.
    """
    # Some servers put names in quotes, or a weight behind them as in Accept-Encoding.
    codings = [name.partition(";")[0].strip(" \t\"'").lower() for name in content_encoding.split(",")]
    unsupported = next((name for name in codings if name in _UNSUPPORTED_CODINGS), None)
    if unsupported is not None:
        raise failure(target, f"content encoding {clean(unsupported)!r} was not asked for", "bad-answer")
    compressed = [name for name in codings if name in _SUPPORTED_CODINGS]
    if len(compressed) > _MAX_CODINGS:
        raise failure(target, f"packed {len(compressed)} times", "bad-answer")
    out: bytes | bytearray = data
    for name in reversed(compressed):
        try:
            out = _inflate(out, target, max_bytes) if name == "deflate" else _gunzip(out, target, max_bytes)
        except zlib.error as error:
            raise failure(target, f"not {name} as promised ({clean(error)})", "bad-answer") from None
    return out


def _gunzip(data: bytes | bytearray, target: Target, max_bytes: int) -> bytearray:
    """Decompress all members of a gzip stream, ignoring trailing bytes as gzip does."""
    out = bytearray()
    while True:
        decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        out += _decompress(decompressor, data, target, max_bytes - len(out), max_bytes)
        data = decompressor.unused_data
        if not data.startswith(b"\x1f\x8b"):
            return out


def _inflate(data: bytes | bytearray, target: Target, max_bytes: int) -> bytes:
    """Decompress `deflate`: zlib's format by the standard, but some servers send a raw deflate stream."""
    try:
        return _decompress(zlib.decompressobj(), data, target, max_bytes, max_bytes)
    except zlib.error:
        return _decompress(zlib.decompressobj(wbits=-zlib.MAX_WBITS), data, target, max_bytes, max_bytes)


def _decompress(
    decompressor: zlib._Decompress, data: bytes | bytearray, target: Target, max_out: int, max_bytes: int
) -> bytes:
    out = decompressor.decompress(data, max_out + 1)
    if len(out) > max_out:
        raise too_large(target, "more when unpacked", max_bytes)
    if not decompressor.eof:
        raise failure(target, "the packed answer broke off", "truncated")
    return out
