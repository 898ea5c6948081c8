"""A dataset's folder → archives that other trainers read: StyleGAN's zip, WebDataset's tar shards.

They are written next to it (`DIR-zip`, `DIR-webdataset`) with the manifest, credits and licences, which every copy
must keep. The same dataset gives the same bytes: entries carry no dates.
"""

from __future__ import annotations

import datetime
import io
import json
import math
import os
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lhq.errors import InputError
from lhq.export import layout, ownership
from lhq.export.previous import data_files
from lhq.progress import OnProgress
from lhq.store import marker
from lhq.store.atomic_file import write_atomically

Format = Literal["zip", "webdataset"]
_COPIED = (layout.MANIFEST, layout.CREDITS, layout.CREDITS_SAMPLE, layout.LICENCES_PAGE)
_DISK = fsspec.filesystem("file")
_READ_AHEAD_BYTES = 4 * 2**20


def write(folder: str, names: dict[str, str], format: Format, on_progress: OnProgress) -> str:
    """Write the archives of a dataset's variants; returns their folder.

    Args:
        folder: what `lhq export` wrote.
        names: variant → its data folder, e.g. `{"256": "data"}`.

    Raises:
        InputError: there are no pictures to put into archives, a file that lhq did not write is in the way, or a
        variant mixes formats, which loaders of tar shards refuse.
        StoreError: the disk is full.
    """
    if not names:
        raise InputError(
            f"{folder}: holds no pictures, only a manifest", hint='export with publish = "private" or "bytes"'
        )
    if format == "webdataset":
        for variant, sub in names.items():
            _refuse_mixed(variant, os.path.join(folder, sub))
    place = ownership.archives(f"{folder}-{format}")
    jobs = [*_jobs(folder, names, format)]
    place.check({*_COPIED, *(name for _, name, _ in jobs)})
    place.recover()
    with place.building() as part:
        stale = place.contents(part)  # from an interrupted run, perhaps with other rows
        for name in (stale.ours if stale else frozenset()) - {marker.NAME}:
            os.unlink(os.path.join(part, name))
        for name in _COPIED:
            with open(os.path.join(folder, name), "rb") as source:
                write_atomically(_DISK, os.path.join(part, name), lambda sink: shutil.copyfileobj(source, sink))
        for number, (variant, name, files) in enumerate(jobs):
            on_progress(f"{variant}: {format}", number, len(jobs))
            if format == "zip":
                _write_zip(os.path.join(part, name), files)
            else:
                _write_tar(os.path.join(part, name), files[0])
        place.commit([*_COPIED, *(name for _, name, _ in jobs)])
    return place.path


def _jobs(folder: str, names: dict[str, str], format: Format) -> Iterator[tuple[str, str, list[str]]]:
    """(variant, name of the archive, its data files)."""
    for variant, sub in names.items():
        for split in layout.SPLITS:
            files = [path for path in data_files(os.path.join(folder, sub)) if split in os.path.basename(path)]
            if format == "zip" and files:
                yield variant, f"{variant}-{split}.zip", files
            for number, path in enumerate(files if format == "webdataset" else []):
                yield variant, f"{variant}-{split}-{number:06d}.tar", [path]


def _refuse_mixed(variant: str, folder: str) -> None:
    """Loaders expect every sample to have the entries of the first: one picture format per variant."""
    counts: Counter[str] = Counter()
    for path in data_files(folder):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                paths = file.read_row_group(group, ["image.path"])["image"].to_pylist()
                counts.update(os.path.splitext(str(one["path"]))[1] for one in paths)
    if len(counts) > 1:
        said = ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common())
        raise InputError(
            f"{folder}: variant {variant} mixes formats ({said}), and loaders of WebDataset take one alone",
            hint=f"give --variants without {variant}, or --format zip",
        )


def _write_zip(to: str, files: list[str]) -> None:
    """As StyleGAN's dataset tool lays them out: `00000/img00000000.jpg`, no labels."""

    def write(sink: IO[bytes]) -> None:
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as out:
            number = 0
            for path in files:
                for row in _rows(path):
                    name = f"{number // 1000:05d}/img{number:08d}{_ending(row)}"
                    out.writestr(zipfile.ZipInfo(name), row["image"]["bytes"])
                    number += 1
            out.writestr(zipfile.ZipInfo("dataset.json"), json.dumps({"labels": None}))

    write_atomically(_DISK, to, write)


def _write_tar(to: str, path: str) -> None:
    """One tar per data file: `<place>.jpg` and `<place>.json` with the papers and scores."""

    def write(sink: IO[bytes]) -> None:
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as out:
            start = os.path.basename(path).split("-")[1]
            for number, row in enumerate(_rows(path)):
                key = f"{start}{number:06d}"
                papers = {name: value for name, value in row.items() if name != "image"}
                text = json.dumps(_finite(papers), ensure_ascii=False, allow_nan=False, sort_keys=True)
                for name, data in ((f"{key}{_ending(row)}", row["image"]["bytes"]), (f"{key}.json", text.encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    out.addfile(entry, io.BytesIO(data))

    write_atomically(_DISK, to, write)


def _finite(papers: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON: NaN becomes null, a time becomes text."""
    return {
        name: None
        if isinstance(value, float) and not math.isfinite(value)
        else value.isoformat()
        if isinstance(value, datetime.datetime)
        else value
        for name, value in papers.items()
    }


def _rows(path: str) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False) as file:
        for batch in file.iter_batches(1):
            yield from pa.Table.from_batches([batch]).to_pylist()


def _ending(row: dict[str, Any]) -> str:
    return os.path.splitext(str(row["image"]["path"]))[1]
