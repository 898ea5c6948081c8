"""Torch's storages inside a pickle → tensors, without executing anything.

In a checkpoint, a tensor is a call of `_rebuild_tensor_v2(storage, offset, size, stride, …)`, and its storage a call of
`_load_from_bytes`, whose bytes are a file of torch.save inside the pickle: a stream of pickles (before torch 1.6) or a
zip.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import TypeGuard

import torch
from torch import Tensor

from alis.errors import UnsafePickle
from alis.import_published.pickles import InertCall, InertName, PersistentId, read

DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_REBUILD = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}
_PARAMETER = {"torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter"}


def tensor(value: object, where: str) -> Tensor:
    """A contiguous copy of the tensor or parameter that `value` describes.

    Raises:
        UnsafePickle: it is not one, or reaches beyond its storage.
    """
    if isinstance(value, InertCall) and value.name in _PARAMETER and value.args:
        value = value.args[0]
    if not isinstance(value, InertCall) or value.name not in _REBUILD or len(value.args) < 4:
        raise _invalid(where, "is not a tensor")
    flat = storage(value.args[0], where)
    offset, size, stride = value.args[1:4]
    if isinstance(size, InertCall) and size.name == "torch.Size" and size.args:
        size = size.args[0]
    if not isinstance(offset, int) or not _whole(size) or not _whole(stride) or len(size) != len(stride):
        raise _invalid(where, "has no valid shape")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # Elements of weights are never shared, so a tensor larger than its storage could only exhaust memory.
    if offset < 0 or (count and last >= len(flat)) or count > len(flat):
        raise _invalid(where, f"of shape {size} reaches beyond its {len(flat)} stored numbers")
    return flat.as_strided(size, stride, offset).contiguous().clone()


def storage(value: object, where: str) -> Tensor:
    """The numbers of a storage as a 1-D tensor.

    Raises:
        UnsafePickle: it is not a storage, or has fewer numbers than it says.
    """
    if not isinstance(value, InertCall) or value.name != "torch.storage._load_from_bytes" or len(value.args) != 1:
        raise _invalid(where, "has no storage")
    data = _bytes(value.args[0], where)
    try:
        return _from_zip(data, where) if data[:4] == b"PK\x03\x04" else _from_stream(data, where)
    except (ValueError, RuntimeError, KeyError, OverflowError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _invalid(where, f"has a storage that can't be read ({error})") from None


def _from_stream(data: bytes, where: str) -> Tensor:
    """The format before torch 1.6, still used inside pickles: five pickles, then each storage's length and bytes."""
    stream = io.BytesIO(data)
    if read(stream, where) != _MAGIC or read(stream, where) != _PROTOCOL:
        raise _invalid(where, "has a storage of an unknown format")
    system = read(stream, where)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _invalid(where, "was written on a big-endian machine")
    dtype, key, count = _identity(read(stream, where), where)
    if read(stream, where) != [key]:
        raise _invalid(where, "has more than one storage")
    stored = int.from_bytes(stream.read(8), "little")
    if stored != count:
        raise _invalid(where, f"has a storage of {stored} numbers that says {count}")
    return _numbers(data, dtype, count, stream.tell(), where)


def _from_zip(data: bytes, where: str) -> Tensor:
    """The format since torch 1.6: an uncompressed zip with data.pkl and data/<key>."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if sum(info.file_size for info in infos.values()) > len(data):
            raise _invalid(where, "has a compressed storage")
        if infos.get("byteorder") is not None and archive.read(infos["byteorder"]) != b"little":
            raise _invalid(where, "was written on a big-endian machine")
        dtype, key, count = _identity(read(io.BytesIO(archive.read(infos["data.pkl"])), where), where)
        return _numbers(archive.read(infos[f"data/{key}"]), dtype, count, 0, where)


def _identity(value: object, where: str) -> tuple[torch.dtype, str, int]:
    """Dtype, key and length from a storage's pickle: ('storage', kind, key, device, count[, view])."""
    entry = value.id if isinstance(value, PersistentId) else None
    if isinstance(entry, tuple) and len(entry) in (5, 6) and entry[0] == "storage" and (*entry, None)[5] is None:
        kind, key, count = entry[1], entry[2], entry[4]
        if isinstance(kind, InertName) and kind.text in DTYPES and isinstance(key, str) and isinstance(count, int):
            return DTYPES[kind.text], key, count
    raise _invalid(where, "has a storage of an unknown kind")


def _numbers(data: bytes, dtype: torch.dtype, count: int, start: int, where: str) -> Tensor:
    size = count * dtype.itemsize
    if count < 0 or start + size > len(data):
        raise _invalid(where, f"should have {size} bytes, but has {len(data) - start}")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(memoryview(data)[start : start + size]), dtype=dtype)


def _bytes(value: object, where: str) -> bytes:
    """Bytes, plain or as protocol 2 writes them: `_codecs.encode(text, "latin1")`."""
    if isinstance(value, InertCall) and value.name == "_codecs.encode" and len(value.args) == 2:
        text, codec = value.args
        if isinstance(text, str) and codec == "latin1":
            value = text.encode("latin1", errors="replace")
    if not isinstance(value, bytes):
        raise _invalid(where, "has a storage without bytes")
    return value


def _whole(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and len(value) <= 8 and all(isinstance(n, int) and n >= 0 for n in value)


def _invalid(where: str, what: str) -> UnsafePickle:
    return UnsafePickle(f"{where} {what}", hint="the file is damaged or malicious; nothing was executed")
