"""Address → catalogue of a dataset: Parquet files, an export with several variants, a folder or zip of pictures.

A dataset is a folder of Parquet files (an export: `data/train-00000-of-000NN.parquet`), a glob, a single file, or a
folder or zip of pictures; on a local disk or any fsspec address: `s3://bucket/…`, `hf://datasets/owner/name`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import fsspec

from alis.data import pictures, variants
from alis.data.catalogue import Catalogue, catalogue_parquet
from alis.errors import DataError, InputError
from lhq.errors import StoreError
from lhq.store.remote import check, store_error

_STORED = re.compile(r"photos/\d{6}\.parquet")  # the shards of a store of lhq, and what is beside them
_BESIDE = {"frontier.sqlite", "verdicts.parquet", "crawl.lock"}
_HELD_OUT = re.compile(r"(^|[/_.-])(validation|valid|val|test)([/_.-]|$)")


def open_catalogue(
    address: str, column: str | None = None, *, side: int | None = None, variant: str | None = None
) -> Catalogue:
    """Catalogue a dataset without reading its pictures.

    Args:
        address: folder, glob, Parquet file, zip or URL. Of a dataset folder, `data/` or another variant is read, not
            the manifests and credits beside it; files of validation and test splits are left out.
        column: the image column; None: the one marked as an `Image` feature, else `image`, else the only binary one.
        side: R, the side of frames: chooses among an export's variants (the choice is logged), and warns if every
            picture of the variant must be resized.
        variant: the variant by name, e.g. `256`; None: chosen by `side`.

    Raises:
        InputError: nothing there, no image column, no such variant, or a store that has to be exported first.
        DataError: a file is damaged, or the service can't be reached.
    """
    if _is_zip(address):
        return pictures.catalogue_zip(address)
    fs, root, files = _listed(address)
    parquet = [name for name in files if name.endswith(".parquet")]
    _refuse_store(address, root, files, parquet)
    if parquet:
        chosen = variants.choose(fs, root, parquet, side=side, wanted=variant, address=address)
        under = {name: name.removeprefix(root) for name in chosen}
        train = [name for name in chosen if not _HELD_OUT.search(under[name])]
        return catalogue_parquet(address, fs, sorted(train or chosen), column)
    found = [name for name in files if pictures.is_picture(name.removeprefix(root))]
    if found:
        return pictures.catalogue_folder(address, fs, sorted(found))
    raise InputError(
        f"{address}: no Parquet files and no pictures there",
        hint="give a folder written by `lhq export`, any Parquet dataset, or a folder or zip of pictures",
    )


def _is_zip(address: str) -> bool:
    return address.lower().endswith(".zip") and "://" not in address and not Path(address).is_dir()


def _listed(address: str) -> tuple[Any, str, list[str]]:
    """The filesystem, the folder and all files of an address."""
    options: dict[str, Any] = {}
    if address.startswith(("s3://", "s3a://")):  # botocore's defaults retry for minutes
        options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}
    try:
        check(address)
        fs, root = fsspec.core.url_to_fs(address, **options)
        if any(letter in root for letter in "*?["):
            return fs, posixpath.dirname(root.split("*")[0]), fs.glob(root)
        if root.endswith(".parquet"):
            return fs, posixpath.dirname(root), [root] if fs.exists(root) else []
        return fs, root, fs.find(root)
    except ImportError as error:
        raise InputError(f"{address}: {error}", hint="pip install s3fs for s3://, huggingface_hub for hf://") from error
    except ValueError as error:
        raise InputError(f"{address}: {error}", hint="give a folder, s3://… or hf://datasets/owner/name") from error
    except Exception as error:  # each remote filesystem has its own exception classes
        if isinstance(error, MemoryError):
            raise
        said = error if isinstance(error, StoreError) else store_error(address, error)
        raise DataError(said.message, hint=said.hint) from error


def _refuse_store(address: str, root: str, files: list[str], parquet: list[str]) -> None:
    """Refuse a store of `lhq`, whose photos are not filtered and exported, and say what to do instead."""
    inside = {name.removeprefix(root).lstrip("/") for name in files}
    has_photos = any(_STORED.fullmatch(name) for name in inside)
    if not has_photos or not any(name in _BESIDE or name.startswith("facts/") for name in inside):
        return
    exports = {posixpath.dirname(posixpath.dirname(name)) for name in parquet if "/data/train-" in name}
    if exports:
        raise InputError(f"{address}: is a store of lhq", hint=f"train on its export: --data {sorted(exports)[0]}")
    raise InputError(
        f"{address}: is a store of lhq, whose photos are not filtered and exported yet",
        hint="run lhq filter PIPELINE and lhq export PIPELINE, then give the exported folder as --data",
    )
