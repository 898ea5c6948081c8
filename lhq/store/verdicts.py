"""`verdicts.parquet`: the filter's verdict on every photo.

Its metadata holds the settings of the filter, so that readers can detect verdicts of earlier thresholds.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lhq.config import Settings
from lhq.errors import ShardDamaged
from lhq.records import VERDICT_SCHEMA
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import open_file

NAME = "verdicts.parquet"
_JUDGED = b"lhq.judged"


def read(store: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """One row per judged photo (`VERDICT_SCHEMA`, or only `columns` of it), in the order of the shards; None before the
    first `lhq filter`.

    Raises:
        ShardDamaged: the file exists but can't be read, or lacks a column.
    """
    fs, path = _path_in(store)
    try:
        with open_file(fs, path) as file:
            file_rows = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
            missing = set(columns or ()) - set(file_rows.schema_arrow.names)
            if missing:
                raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))}")
            table = file_rows.read(columns=columns, use_threads=False)
            # A Parquet footer has no checksum: its counts and types may rot.
            if len(table) != file_rows.metadata.num_rows:
                raise pa.ArrowInvalid(f"{len(table)} rows of {file_rows.metadata.num_rows}")
            for name in table.column_names:
                if table.schema.field(name).type != VERDICT_SCHEMA.field(name).type:
                    raise pa.ArrowInvalid(f"{name} is {table.schema.field(name).type}")
            return table
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        raise ShardDamaged(
            f"{path}: not readable ({' '.join(str(error).split())})", hint="run lhq filter again: it writes a new one"
        ) from error


def write(store: str, table: pa.Table, *, judged_by: str = "") -> None:
    """Write the verdicts atomically.

    Args:
        judged_by: the filter's settings (`describe_settings`); "" if no filter of this store judged.

    Raises:
        StoreError: the store can't be written.
    """
    table = table.replace_schema_metadata({_JUDGED: judged_by} if judged_by else None)
    fs, path = _path_in(store)
    write_atomically(fs, path, lambda sink: pq.write_table(table, sink, compression="zstd", write_page_checksum=True))


def describe_settings(settings: Mapping[str, Settings]) -> str:
    """Settings by measure, in the order of judgement, as JSON."""
    return json.dumps({name: measure_settings.model_dump(mode="json") for name, measure_settings in settings.items()})


def judged_by(table: pa.Table) -> str:
    """The settings that verdicts were judged by, or "" if unknown."""
    return bytes((table.schema.metadata or {}).get(_JUDGED, b"")).decode(errors="replace")


def _path_in(store: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, root = fsspec.core.url_to_fs(store)
    return fs, posixpath.join(root, NAME)
