"""A folder that an earlier export wrote: which shards and which rows of it still hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from lhq.errors import InputError, ShardDamaged
from lhq.export import layout
from lhq.export.render import Picture

FINGERPRINT, RENDER, FAILED = "lhq.fingerprint", "lhq.render", "lhq.failed"


def data_files(folder: str) -> Iterator[str]:
    """Paths of the data files directly in `folder`, sorted; none where it is not there."""
    if os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            if layout.parse_data_file(name):
                yield os.path.join(folder, name)


def facts(path: str) -> dict[str, str]:
    """The key-value metadata of a data file; {} where it is not there or not readable."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (FileNotFoundError, pa.ArrowException):
        return {}
    return {key.decode(): value.decode() for key, value in metadata.items()}


def sha256_of(path: str) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(path: str) -> dict[str, str]:
    """File → sha256 as a `croissant.json` lists them; {} where it is missing or none."""
    try:
        with open(path, encoding="utf-8") as file:
            described = json.load(file)
        files = [one for one in described["distribution"] if one["@type"] == "cr:FileObject"]
        return {str(one["contentUrl"]): str(one["sha256"]) for one in files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def is_rotten(to: str, path: str) -> bool:
    """Whether a file of the earlier export in `to` has other bytes than its `croissant.json` lists; not if it lists
    none."""
    wanted = listed(os.path.join(to, layout.CROISSANT)).get(os.path.relpath(path, to).replace(os.sep, "/"))
    return wanted is not None and sha256_of(path) != wanted


def failed_rows(path: str) -> dict[str, str]:
    """id → reason of the rows that belong into this data file but could not be rendered."""
    return dict(json.loads(facts(path).get(FAILED, "{}")))


def manifest_ids(to: str) -> pa.ChunkedArray | None:
    """Ids in the manifest of an earlier export; None where the folder is missing or empty.

    Raises:
        InputError: the folder holds something else.
    """
    if not os.path.isdir(to) or not os.listdir(to):
        if os.path.exists(to) and not os.path.isdir(to):
            raise InputError(f"{to}: is a file", hint="give a folder")
        return None
    try:
        with pq.ParquetFile(os.path.join(to, layout.MANIFEST), pre_buffer=False) as file:
            return file.read(["id"])["id"]
    except (OSError, KeyError, pa.ArrowException):
        raise InputError(
            f"{to}: is not empty, and not a dataset that lhq export wrote",
            hint="give an empty folder or one that does not exist yet",
        ) from None


class Published:
    """The pictures of one variant in an earlier export, read by id.

    Only those are offered that were rendered in the same way (`render_key`) from bytes with the same sha256, of files
    whose bytes have not changed since.
    """

    def __init__(self, to: str, folder: str, render_key: str) -> None:
        self._at: dict[tuple[str, str], tuple[str, int, int, str, int, int]] = {}
        columns = ["id", "sha256", "image_sha256", "image_width_px", "image_height_px"]
        for path in data_files(os.path.join(to, folder)):
            if facts(path).get(RENDER) != render_key or is_rotten(to, path):
                continue
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, columns)
                    for row, one in enumerate(zip(*(rows[name].to_pylist() for name in columns), strict=True)):
                        self._at[one[0], one[1]] = (path, group, row, one[2], one[3], one[4])

    def __contains__(self, id_and_sha256: tuple[str, str]) -> bool:
        return id_and_sha256 in self._at

    def read(self, id_and_sha256: tuple[str, str]) -> Picture:
        """The picture of a photo that is in the earlier export.

        Raises:
            ShardDamaged: its bytes are not what they were.
        """
        path, group, row, sha256, width, height = self._at[id_and_sha256]
        there = os.stat(path)
        data = _group(path, group, (there.st_ino, there.st_mtime_ns))["image"][row]["bytes"].as_py()
        picture = Picture(data, sha256, width, height)
        if not picture.is_whole():
            raise ShardDamaged(f"{path}: row {row} of row group {group} is damaged", hint="delete that file, run again")
        return picture


@lru_cache(maxsize=2)
def _group(path: str, group: int, stamp: tuple[int, int]) -> pa.Table:
    """One row group's pictures; rows are asked for in their order, so the last two groups suffice.

    `stamp` (inode and time) tells a file from the one that the next export of this process puts in its place.
    """
    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.read_row_group(group, ["image"]).combine_chunks()
