"""Python values → Arrow arrays without pandas: `pa.array` loads it to ask whether a list is a Series.

That is 50 MB and half a second, for a crawl that needs nothing of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """What `pa.array(values, kind)` makes, for the types of a photo's papers.

    Args:
        kind: numbers of whole bytes (times too, as their integers; None for null), strings, lists of strings.

    Raises:
        TypeError: a type that is none of these.
        ValueError, OverflowError: a value that doesn't fit.
    """
    if pa.types.is_string(kind):
        return _strings(values)
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        inner = _strings(list(itertools.chain.from_iterable(values)))
        return pa.ListArray.from_arrays(_offsets(len(value) for value in values), inner)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)):
        raise TypeError(f"no array of {kind} here")
    dtype = np.dtype(np.int64) if pa.types.is_timestamp(kind) else np.dtype(kind.to_pandas_dtype())
    is_there = np.array([value is not None for value in values], bool)
    numbers = np.array([0 if value is None else value for value in values], dtype)
    nulls = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [nulls, pa.py_buffer(numbers)])


def _strings(values: Sequence[str]) -> pa.Array:
    texts = [value.encode() for value in values]
    offsets = _offsets(map(len, texts)).buffers()[1]
    return pa.Array.from_buffers(pa.string(), len(texts), [None, offsets, pa.py_buffer(b"".join(texts))])


def _offsets(sizes: Any) -> pa.Array:
    found = np.fromiter(itertools.accumulate(sizes, initial=0), np.int64)
    if found[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{found[-1]:,} bytes in one column of a row group")
    return pa.Array.from_buffers(pa.int32(), len(found), [None, pa.py_buffer(found.astype(np.int32))])
