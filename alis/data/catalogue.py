"""Parquet files → the catalogue of an image dataset: its row groups, read from the files' footers.

The image column is a struct{bytes, path}, as written by the Hugging Face `Image` feature, or plain binary. A catalogue
takes a few bytes of memory per row group, and none per image.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alis.data.decode_notes import Crashes
from alis.errors import DataError, InputError
from lhq.errors import StoreError
from lhq.store.remote import open_file


@dataclass(frozen=True)
class Catalogue:
    """The row groups of a dataset, in file order.

    int64 arrays [num_groups]: `group_file`, each group's file; `group_index`, its index there; `group_rows`, its rows;
    `group_bytes`, the uncompressed bytes of its image column; `group_start`, its first row in its
    file. `crashes`: the rows to leave out, see `alis.data.crashes`.
    """

    address: str
    fs: Any
    files: tuple[str, ...]
    column: str
    is_struct: bool
    group_file: np.ndarray
    group_index: np.ndarray
    group_rows: np.ndarray
    group_bytes: np.ndarray
    group_start: np.ndarray
    fingerprint: str
    crashes: Crashes | None = None

    @property
    def num_images(self) -> int:
        return int(self.group_rows.sum())

    def row_name(self, group: int, row: int, path: str | None) -> str:
        """A row for messages: its file and row number there, and its `path` if the dataset has one."""
        file = self.files[int(self.group_file[group])]
        return f"{file} row {int(self.group_start[group]) + row}" + (f" ({path})" if path else "")

    def stamp(self, name: str) -> str | None:
        """An identifier that changes with the file's content, without reading it; None: its bytes must be hashed."""
        return None if "file" in self.fs.protocol else str(self.fs.ukey(name))

    def rows(self, group: int) -> pa.Array:
        """The image column of one row group: [group_rows] of struct{bytes, path}, or of binary.

        Raises:
            OSError, pa.ArrowException: the file is gone, can't be reached, or is damaged.
        """
        name = self.files[int(self.group_file[group])]
        # Arrow reads a local file itself, without Python in between and without further buffering.
        is_local = "file" in self.fs.protocol
        with pa.OSFile(name) if is_local else open_file(self.fs, name) as stream:
            table = pq.ParquetFile(stream, pre_buffer=False).read_row_group(
                int(self.group_index[group]), columns=[self.column], use_threads=False
            )
        column = table.column(0)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def catalogue_parquet(address: str, fs: Any, files: Sequence[str], column: str | None) -> Catalogue:
    """Catalogue Parquet files by their footers.

    Raises:
        InputError: no image column, or no rows.
        DataError: a file is damaged, or the service can't be reached.
    """
    try:
        with ThreadPoolExecutor(8) as pool:
            footers = list(pool.map(lambda name: _footer(fs, name), files))
    except (OSError, pa.ArrowException) as error:
        raise DataError(str(error), hint="download or export the dataset again, or leave that file out") from error
    schema = footers[0][0].schema.to_arrow_schema()
    column, is_struct = _image_column(schema, column, address)
    places, digest = [], hashlib.sha256()
    for number, (name, (footer, size)) in enumerate(zip(files, footers, strict=True)):
        leaf = _leaf(footer, column, name)
        digest.update(f"{posixpath.basename(name)} {size} {footer.num_rows}\n".encode())
        start = 0
        for index in range(footer.num_row_groups):
            group = footer.row_group(index)
            if group.num_rows:
                places.append((number, index, group.num_rows, group.column(leaf).total_uncompressed_size, start))
                digest.update(f"{group.num_rows} {group.column(leaf).total_compressed_size}\n".encode())
            start += group.num_rows
    if not places:
        raise InputError(f"{address}: the dataset holds no images", hint="give a dataset with rows")
    table = np.array(places, dtype=np.int64).T
    file, index, rows, size, start = table
    return Catalogue(
        address, fs, tuple(files), column, is_struct, file, index, rows, size, start, digest.hexdigest()[:16]
    )


def _footer(fs: Any, name: str) -> tuple[pq.FileMetaData, int]:
    try:
        with open_file(fs, name) as stream:
            return pq.read_metadata(stream), int(fs.size(name) or 0)
    except StoreError as error:
        raise DataError(error.message, hint=error.hint) from error
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{name}: not a readable Parquet file ({error})") from error


def _image_column(schema: pa.Schema, wanted: str | None, address: str) -> tuple[str, bool]:
    """Name of the image column, and whether it is a struct with `bytes`."""
    fit = {f.name: _is_struct(f.type) for f in schema if _is_struct(f.type) or _is_binary(f.type)}
    if wanted is None:
        marked = [name for name in fit if name in _image_features(schema)]
        binary = [name for name in ("image", "img", "jpg") if name in fit] or (list(fit) if len(fit) == 1 else [])
        names = marked or binary
        wanted = names[0] if names else None
    if wanted not in fit or wanted is None:
        raise InputError(
            f"{address}: no image column{f' {wanted!r}' if wanted else ''}; columns: {', '.join(schema.names)}",
            hint="name one that contains encoded pictures with --data.column",
        )
    return wanted, fit[wanted]


def _image_features(schema: pa.Schema) -> list[str]:
    """Columns that the `datasets` library marked as images in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Image"]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return _is_binary(kind.field("bytes").type)


def _leaf(footer: pq.FileMetaData, column: str, name: str) -> int:
    """The index of the image bytes among the file's leaf columns."""
    for index in range(footer.num_columns):
        if footer.schema.column(index).path in (column, f"{column}.bytes"):
            return index
    raise InputError(f"{name}: no column {column!r}", hint="all files of a dataset must have the same columns")
