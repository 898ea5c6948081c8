"""`manifest.parquet`: every row's papers and scores without its picture; enough to rebuild the set."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.errors import InputError
from lhq.export import layout
from lhq.records import ADDED, PAPERS, PHOTO_SCHEMA
from lhq.store.atomic_file import write_atomically
from lhq.store.remote import open_file

_PLACE = ("shard", "row", "place")


def write(folder: str, rows: pa.Table, metadata: Mapping[str, str]) -> None:
    """Write the manifest of `rows` (papers, scores, `split`) into a local folder.

    Args:
        metadata: of the file; {} for none.

    Raises:
        StoreError: it can't be written.
    """
    table = rows.drop_columns([name for name in _PLACE if name in rows.column_names]).replace_schema_metadata(
        dict(metadata) or None
    )
    options = {
        "compression": "zstd",
        "write_page_index": True,
        "write_page_checksum": True,
        "use_content_defined_chunking": True,
    }
    write_atomically(
        fsspec.filesystem("file"),
        os.path.join(folder, layout.MANIFEST),
        lambda sink: pq.write_table(table, sink, row_group_size=10_000, **options),
    )


def read(where: str) -> pa.Table:
    """Read a manifest, given as a file, a dataset's folder, or an address of either.

    Raises:
        InputError: it is not there, not Parquet, or lacks columns that a manifest has.
    """
    fs, path = fsspec.core.url_to_fs(where)
    if not path.endswith(".parquet"):
        path = posixpath.join(path, layout.MANIFEST)
    try:
        with open_file(fs, path) as file:
            table = pq.ParquetFile(
                file, pre_buffer=False, page_checksum_verification=True
            ).read()  # read_table on a Python file can crash at exit: apache/arrow 33975
    except FileNotFoundError:
        raise InputError(f"{path}: not there", hint=f"give a {layout.MANIFEST} or the folder that holds it") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not readable ({error})", hint="fetch it again") from error
    missing = [name for name in PAPERS if name not in table.column_names and name not in ADDED]
    if missing:
        said = f"{path}: is not a manifest: it lacks {', '.join(missing)}"
        raise InputError(said, hint="lhq export writes manifests")
    for name in PAPERS:
        field = PHOTO_SCHEMA.field(name)
        if name in table.column_names:
            at = table.column_names.index(name)
            table = table.set_column(at, field, pc.cast(table[name], field.type))
        else:  # a manifest written before the column was, or one that leaves out where photos were taken
            table = table.append_column(field, pa.array([ADDED[name]] * len(table), field.type))
    return table
