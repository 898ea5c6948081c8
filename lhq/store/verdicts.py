"""`verdicts.parquet`: what the filter decided of every photo, for all who read it afterwards.

Its metadata says by which settings was judged, so that a reader can tell verdicts that a moved threshold left behind.
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
from lhq.store.remote import open_file
from lhq.store.shards import write_whole

NAME = "verdicts.parquet"
_JUDGED = b"lhq.judged"


def read(store: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """One row a judged photo, in the order of the shards (`VERDICT_SCHEMA`, or only `columns` of it); None before the
    first `lhq filter`.

    Raises:
        ShardDamaged: the file is there but can't be read, or lacks a column.
    """
    fs, path = _place(store)
    try:
        with open_file(fs, path) as file:
            found = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
            missing = set(columns or ()) - set(found.schema_arrow.names)
            if missing:
                raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))}")
            return found.read(columns=columns, use_threads=False)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(
            f"{path}: not readable ({' '.join(str(error).split())})", hint="run lhq filter again: it writes a new one"
        ) from error


def write(store: str, table: pa.Table, *, judged_by: str = "") -> None:
    """Write them whole or not at all.

    Args:
        judged_by: the settings; "" where no filter of this store made them.

    Raises:
        StoreError: the store can't be written.
    """
    table = table.replace_schema_metadata({_JUDGED: judged_by} if judged_by else None)
    fs, path = _place(store)
    write_whole(fs, path, lambda sink: pq.write_table(table, sink, compression="zstd", write_page_checksum=True))


def word(settings: Mapping[str, Settings]) -> str:
    """Settings by measure, in the order of judgement, as verdicts state them."""
    return json.dumps({name: one.model_dump(mode="json") for name, one in settings.items()})


def judged_by(table: pa.Table) -> str:
    """The settings that verdicts were made by, "" where they don't say."""
    return bytes((table.schema.metadata or {}).get(_JUDGED, b"")).decode()


def _place(store: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, root = fsspec.core.url_to_fs(store)
    return fs, posixpath.join(root, NAME)
