"""An export's variants → the one to train on: `data/` and `data-<name>/` have the same photos in different sizes."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alis.data.decode import BadImage, size_of
from alis.errors import InputError
from lhq import nearest

log = logging.getLogger("alis")
_SIDES = ("image_width_px", "image_height_px")


@dataclass(frozen=True)
class _Variant:
    """One variant; `side` is its pictures' side in pixels if those checked are all squares of one size, else None."""

    folder: str
    files: tuple[str, ...]
    side: int | None

    @property
    def names(self) -> set[str]:
        suffix = self.folder.partition("-")[2]
        return {self.folder, suffix or (str(self.side) if self.side else "full")}

    @property
    def shown(self) -> str:
        suffix = self.folder.partition("-")[2]
        return suffix or (str(self.side) if self.side else "full")


def choose(
    fs: Any, root: str, files: Sequence[str], *, side: int | None, wanted: str | None, address: str
) -> list[str]:
    """Choose the Parquet files of one variant; all files if the folder is not an export.

    Without a name, choose the variant whose pictures are `side` pixels wide and high; else the next larger one, so that
    pictures are only scaled down; else the largest.

    Raises:
        InputError: no variant has this name.
    """
    by_folder: dict[str, list[str]] = {}
    for name in files:
        parent, folder = posixpath.split(posixpath.dirname(name))
        if parent == root.rstrip("/") and (folder == "data" or folder.startswith("data-")):
            by_folder.setdefault(folder, []).append(name)
    if not by_folder:
        if wanted is not None:
            raise InputError(f"{address}: has no variants", hint="leave --data.variant out")
        return list(files)
    if side is None and wanted is None:
        return by_folder.get("data") or by_folder[sorted(by_folder)[0]]
    found = [_Variant(folder, tuple(sorted(names)), _side(fs, sorted(names))) for folder, names in by_folder.items()]
    if wanted is not None:
        chosen = next((one for one in found if wanted in one.names), None)
        if chosen is None:
            names = sorted(one.shown for one in found)
            takes = f"--data.variant takes {', '.join(names)}"
            near = nearest.word(wanted, names, "")
            raise InputError(f"{address}: no variant {wanted!r}", hint=f"{near} {takes}".strip())
    else:
        assert side is not None
        chosen = min(found, key=lambda one: _distance(one, side))
    if len(found) > 1:
        log.info("reading %s/ of %s (its variants: %s)", chosen.folder, address, ", ".join(one.shown for one in found))
    if side is not None and chosen.side is not None and chosen.side != side:
        log.warning(
            "every picture of %s/ is %d px and must be resized to %d px; an export with a variant of %d px is faster",
            chosen.folder,
            chosen.side,
            side,
            side,
        )
    return list(chosen.files)


def _distance(one: _Variant, side: int) -> tuple[int, int, str]:
    """Sort key of variants: the smallest is chosen."""
    if one.side == side:
        return 0, 0, one.folder
    if one.side is not None and one.side > side:
        return 1, one.side, one.folder
    if one.side is None:  # photographs at their original sizes
        return 2, 0, one.folder
    return 3, -one.side, one.folder


def _side(fs: Any, files: Sequence[str]) -> int | None:
    """The side of the first row group's pictures, if all of them are squares of one size.

    Read from the size columns; if there are none, from the header of the first picture.
    """
    try:
        with fs.open(files[0], "rb") as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            if not file.metadata.num_row_groups:
                return None
            if set(_SIDES) <= set(file.schema_arrow.names):
                table = file.read_row_group(0, columns=list(_SIDES))
                found = {value for name in _SIDES for value in table[name].unique().to_pylist()}
            else:
                found = set(_first_picture(file))
    except (OSError, ValueError, pa.ArrowException, BadImage):
        return None  # reading the dataset will report what is wrong with it
    return found.pop() if len(found) == 1 else None


def _first_picture(file: pq.ParquetFile) -> tuple[int, int]:
    """Width and height of a file's first picture, from its header."""
    rows = next(file.iter_batches(batch_size=1))
    for column in rows.columns:
        value = column[0].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            return size_of(data)
    raise ValueError("no picture in the first row")
