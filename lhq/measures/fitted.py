"""What a measure learned in its pass over all photos: `fits/<measure>-<fingerprint>.safetensors` in the store.

A fit is made once and kept: photos added later are measured with it too, so that facts stay comparable. A new one is
made when a setting that it depends on changes, or when its file is deleted (then also delete the facts made with it).
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping

import fsspec
import numpy as np
import numpy.typing as npt

from lhq.errors import StoreError
from lhq.measures import MeasureSettings
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import open_file

Array = npt.NDArray[np.generic]


def fit_key(measure: str, version: int, settings: MeasureSettings) -> str:
    """Name of the fit for these settings; keys that only change the judgement do not count."""
    deciding = settings.model_dump(mode="json", exclude=set(settings.judgement))
    digest = hashlib.sha256(json.dumps([version, deciding], sort_keys=True).encode()).hexdigest()
    return f"{measure}-{digest[:10]}"


def path_of(store: str, key: str) -> str:
    """Address of one fit."""
    return posixpath.join(store, "fits", f"{key}.safetensors")


def save(store: str, key: str, arrays: Mapping[str, Array], notes: Mapping[str, str]) -> None:
    """Write a fit.

    Raises:
        StoreError: the store can't be written.
    """
    from safetensors.numpy import save as pack

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = pack(whole, metadata={**notes, _SUM: _checksum(whole)})
    fs, path = fsspec.core.url_to_fs(path_of(store, key))
    write_atomically(fs, path, lambda sink: sink.write(data))


def read(store: str, key: str) -> tuple[dict[str, Array], dict[str, str]] | None:
    """A fit's arrays and notes; None if it was not made yet.

    Raises:
        StoreError: the file is there but damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    fs, path = fsspec.core.url_to_fs(path_of(store, key))
    try:
        with open_file(fs, path) as file:
            data = file.read()
    except FileNotFoundError:
        return None
    try:
        arrays = unpack(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, str(error)) from None
    notes = header.get("__metadata__", {})
    if notes.pop(_SUM, "") not in {"", _checksum(arrays)}:
        raise _damaged(path, "its numbers are not those that were written")
    if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
        raise _damaged(path, "some of its numbers are not finite: no photo could be measured by it")
    return arrays, notes


_SUM = "lhq.sha256"


def _checksum(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _damaged(path: str, what: str) -> StoreError:
    hint = "delete it, and the facts made by it; the next run fits it again"
    return StoreError(f"{path}: damaged ({what})", hint=hint)
