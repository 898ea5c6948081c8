"""Python values → Arrow arrays without pandas.

`pa.array` imports pandas to check whether a list is a Series; that takes 50 MB and 0.5 s, which a crawl can save.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def array(values: Sequence[Any], data_type: pa.DataType) -> pa.Array:
    """Like `pa.array(values, data_type)`, for the types of a photo's papers.

    Args:
        data_type: integers, floats, timestamps (as integers), strings or lists of strings; numbers may be None.

    Raises:
        TypeError: any other type.
        ValueError, OverflowError: a value out of range.
    """
    if pa.types.is_string(data_type):
        return _strings(values)
    if pa.types.is_list(data_type) and pa.types.is_string(data_type.value_type):
        flat = _strings(list(itertools.chain.from_iterable(values)))
        return pa.ListArray.from_arrays(_offsets(len(value) for value in values), flat)
    if not (pa.types.is_integer(data_type) or pa.types.is_floating(data_type) or pa.types.is_timestamp(data_type)):
        raise TypeError(f"no array of {data_type} here")
    dtype = np.dtype(np.int64) if pa.types.is_timestamp(data_type) else np.dtype(data_type.to_pandas_dtype())
    is_valid = np.array([value is not None for value in values], bool)
    numbers = np.array([0 if value is None else value for value in values], dtype)
    nulls = None if is_valid.all() else pa.py_buffer(np.packbits(is_valid, bitorder="little"))
    return pa.Array.from_buffers(data_type, len(values), [nulls, pa.py_buffer(numbers)])


def _strings(values: Sequence[str]) -> pa.Array:
    texts = [value.encode() for value in values]
    offsets = _offsets(map(len, texts)).buffers()[1]
    return pa.Array.from_buffers(pa.string(), len(texts), [None, offsets, pa.py_buffer(b"".join(texts))])


def _offsets(sizes: Any) -> pa.Array:
    offsets = np.fromiter(itertools.accumulate(sizes, initial=0), np.int64)
    if offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{offsets[-1]:,} bytes in one column of a row group")
    return pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets.astype(np.int32))])
