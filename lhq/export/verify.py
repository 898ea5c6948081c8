"""A dataset's folder → its problems: everything is checked, every picture is hashed and decoded.

Works on what `lhq export` writes, wherever it was copied. A problem is a line that names file and row; none means
that the folder is intact.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lhq import images, nearest
from lhq.engines import Engine, Job, ShardReport
from lhq.engines.isolated import isolated
from lhq.errors import ImageError, InputError
from lhq.export import layout, manifest, pages
from lhq.export.previous import data_files, failed_rows
from lhq.processes import Died
from lhq.progress import OnProgress, silent
from lhq.records import ADDED, PLACE, PUBLISHED_PAPERS
from lhq.rights.licences import LICENCES
from lhq.store.marker import files_below

_READ_AHEAD_BYTES = 4 * 2**20
_NAMED_A_FILE = 20
_ANY = 2**62
_ONLY_TO_CHECK_PX = 96  # every byte is read at any scale
# Papers that must equal those of the manifest: what may be done with the photo, and where it is.
_SAME = tuple(name for name in PUBLISHED_PAPERS if name not in {"id", "fetched_at"})
_OLD_TYPES = {"fetched_at": [pa.timestamp("ms", tz="UTC")]}


@dataclass
class VerifyReport:
    """What was checked, and `problems`, one line each."""

    folder: str
    num_rows: int = 0
    num_files: int = 0
    num_pictures: int = 0
    problems: list[str] = field(default_factory=list)


def verify(folder: str, *, engine: Engine, on_progress: OnProgress = silent) -> VerifyReport:
    """Check a folder that `lhq export` wrote: its pages, its schema, its counts, every sha256, every picture.

    Raises:
        InputError: there is no dataset to check.
    """
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder}: no such folder", hint=nearest.path(folder, "give the folder that lhq export wrote")
        )
    rows = manifest.read(folder)
    report = VerifyReport(folder, num_rows=len(rows))
    report.problems += _twice(rows["id"].to_pylist(), layout.MANIFEST)
    card = pages.card_of(folder)
    configs = {str(one["config_name"]): one for one in card.get("configs", []) if isinstance(one, dict)}
    configs.pop("manifest", None)
    report.problems += pages.problems(folder, rows, card)
    report.problems += _extra(folder)
    files = []
    for name in _folders(folder):
        found = list(data_files(os.path.join(folder, name)))
        report.problems += _names(folder, name)
        files += found
    report.problems += _counts(folder, card, configs)
    report.problems += _missing_rows(folder, rows, configs)
    job = FileJob(folder)
    on_progress("verifying", 0, len(files))
    for done in engine.map(job, files, "cpu"):
        report.num_files += 1
        report.num_pictures += done.rows
        report.problems += done.error.splitlines()
        on_progress("verifying", report.num_files, len(files))
    report.problems.sort()
    return report


def _folders(folder: str) -> list[str]:
    return [
        name
        for name in sorted(os.listdir(folder))
        if layout.is_data_folder(name) and os.path.isdir(os.path.join(folder, name))
    ]


def _extra(folder: str) -> Iterator[str]:
    """Files that no page lists; hidden ones (a `.git`) are ignored."""
    for path in files_below(folder):
        first, *rest = path.split("/")
        if first.startswith(".") or (not rest and first in layout.PAGES) or layout.is_data_folder(first):
            continue
        yield f"{path}: not of this dataset"


def _missing_rows(folder: str, rows: pa.Table, configs: dict[str, Any]) -> Iterator[str]:
    """Rows of the manifest that are in no data file, and rows missing from a variant without explanation."""
    if not configs:
        return
    everywhere: set[str] = set()
    adaptable = {
        row["id"]
        for row in rows.select(["id", "licence", "permits"]).to_pylist()
        if row["licence"] in LICENCES and (LICENCES[row["licence"]].derivatives or "adapt" in row["permits"])
    }
    for name, config in configs.items():
        found: set[str] = set()
        excused: set[str] = set()
        for path in data_files(os.path.join(folder, os.path.dirname(str(config["data_files"][0]["path"])))):
            try:
                found.update(pq.read_table(path, columns=["id"])["id"].to_pylist())
                excused.update(failed_rows(path))
            except (OSError, ValueError, pa.ArrowException):
                continue  # the file's own check names it
        everywhere |= found
        wanted = {*rows["id"].to_pylist()} if name == "full" else adaptable
        if lost := sorted(wanted - found - excused - _failed_splits(config, rows)):
            yield f"{name}: {len(lost):,} rows of {layout.MANIFEST} are missing, for instance {lost[0]}"
    if lost := sorted({*rows["id"].to_pylist()} - everywhere):
        yield f"{layout.MANIFEST}: {len(lost):,} rows stand in no data file, for instance {lost[0]}"


def _failed_splits(config: dict[str, Any], rows: pa.Table) -> set[str]:
    """Rows of splits that a variant does not have: none of their photos could be rendered, or it has no such rows."""
    there = {str(one["split"]) for one in config["data_files"]}
    return {row["id"] for row in rows.select(["id", "split"]).to_pylist() if row["split"] not in there}


def _names(folder: str, name: str) -> Iterator[str]:
    """Check that every data file of a split is there, once, and nothing else."""
    numbers: dict[str, set[int]] = {}
    totals: dict[str, set[int]] = {}
    for file in sorted(os.listdir(os.path.join(folder, name))):
        parsed = layout.parse_data_file(file)
        if parsed is None:
            yield f"{name}/{file}: not a data file"
            continue
        split, number, total = parsed
        numbers.setdefault(split, set()).add(number)
        totals.setdefault(split, set()).add(total)
    for split, found in numbers.items():
        if len(totals[split]) > 1:
            yield f"{name}: {split} files of several versions (of {', '.join(map(str, sorted(totals[split])))})"
            continue
        (total,) = totals[split]
        for number in sorted(set(range(total)) - found):
            yield f"{name}/{layout.data_file(split, number, total)}: missing"


def _counts(folder: str, card: dict[str, Any], configs: dict[str, Any]) -> Iterator[str]:
    """Compare the card's row counts with the files, and find folders that the card does not list."""
    infos = {str(one.get("config_name")): one for one in card.get("dataset_info", []) if isinstance(one, dict)}
    known = set()
    for name, config in configs.items():
        paths = [str(one["path"]) for one in config["data_files"]]
        sub = os.path.dirname(paths[0])
        known.add(sub)
        found: Counter[str] = Counter()
        for path in data_files(os.path.join(folder, sub)):
            split = os.path.basename(path).split("-")[0]
            try:
                found[split] += pq.read_metadata(path).num_rows
            except (OSError, pa.ArrowException):
                continue  # the file's own check names it
        said = {str(one["name"]): int(one["num_examples"]) for one in infos.get(name, {}).get("splits", [])}
        for split in sorted(said.keys() | found.keys()):
            if said.get(split, 0) != found[split]:
                yield f"{layout.CARD}: {name} {split}: {said.get(split, 0):,} rows said, {found[split]:,} there"
    for sub in _folders(folder):
        if sub not in known:
            yield f"{sub}: not on the card"


@dataclass(frozen=True)
class FileJob(Job):
    """Checks one data file against the manifest; picklable. The report's `error` holds one line per problem."""

    folder: str
    is_by_row: bool = False

    def by_row(self) -> FileJob:
        return replace(self, is_by_row=True)

    def lacks(self) -> str:
        """The dataset's folder, where this machine can't see it."""
        return "" if os.path.isdir(self.folder) else f"{self.folder}: no such folder on this machine"

    def __call__(self, path: str) -> ShardReport:
        began = time.perf_counter()
        name = os.path.relpath(path, self.folder)
        problems: list[str] = []
        rows = 0
        try:
            with _opened(path) as file:
                problems += _columns(file.schema_arrow)
                if not problems:
                    papers = _Manifest(self.folder)
                    split = os.path.basename(path).split("-")[0]
                    for batch in file.iter_batches(1):
                        for row in batch.to_pylist():
                            rows += 1
                            problems += papers.against(row, split)
                            problems += self._picture(row)
                    problems += papers.left(split, failed_rows(path), file.metadata.num_rows, rows)
        except (OSError, pa.ArrowException) as error:
            problems.append(f"not readable ({error})")
        shown = [f"{name}: {' '.join(one.split())}" for one in problems[:_NAMED_A_FILE]]
        if len(problems) > _NAMED_A_FILE:
            shown.append(f"{name}: … and {len(problems) - _NAMED_A_FILE:,} more")
        return ShardReport(path, rows, len(problems), time.perf_counter() - began, "\n".join(shown))

    def _picture(self, row: dict[str, Any]) -> Sequence[str]:
        """What is wrong with one row's picture."""
        if not self.is_by_row:
            return self.looked_at(row)
        done = isolated(partial(self.looked_at, row))
        return (
            [f"row {row['id']}: decoding its picture kills a process ({done.how})"] if isinstance(done, Died) else done
        )

    def looked_at(self, row: dict[str, Any]) -> list[str]:
        return list(_picture(row))


def _opened(path: str) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False, page_checksum_verification=True)


def _columns(schema: pa.Schema) -> Iterator[str]:
    wanted = [pa.field("image", layout.IMAGE_TYPE), *layout.PAPER_FIELDS]
    for one in [*wanted, *layout.PICTURE_FIELDS]:
        if one.name not in schema.names:
            if one.name not in ADDED:  # a set written by an older lhq is still intact
                yield f"no column {one.name}"
        elif schema.field(one.name).type not in [one.type, *_OLD_TYPES.get(one.name, ())]:
            yield f"column {one.name} is {schema.field(one.name).type}, not {one.type}"
    if b"huggingface" not in (schema.metadata or {}):
        yield "its schema doesn't say that image is a picture"


class _Manifest:
    """The manifest's papers by id, and which rows of a file were seen."""

    def __init__(self, folder: str) -> None:
        table = manifest.read(folder).select(["id", "split", *_SAME, *PLACE])
        self._papers = {row["id"]: row for row in table.to_pylist()}
        self._seen: set[str] = set()

    def against(self, row: dict[str, Any], split: str) -> Iterator[str]:
        id = row["id"]
        if id in self._seen:
            yield f"row {id}: twice"
        self._seen.add(id)
        papers = self._papers.get(id)
        if papers is None:
            yield f"row {id}: not in the manifest"
            return
        if papers["split"] != split:
            yield f"row {id}: its split is {papers['split']}"
        for name in (*_SAME, *PLACE):
            if name in row and papers[name] != row[name]:
                yield f"row {id}: {name} is {row[name]!r}, in the manifest {papers[name]!r}"

    def left(self, split: str, failed: dict[str, str], said: int, found: int) -> Iterator[str]:
        if said != found:
            yield f"{said} rows said, {found} read"
        for id in sorted(failed.keys() & self._seen):
            yield f"row {id}: noted as not renderable, but there"


def _picture(row: dict[str, Any]) -> Iterator[str]:
    data = (row["image"] or {}).get("bytes") or b""
    if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
        yield f"row {row['id']}: sha256 of its picture is not {row['image_sha256']}"
    try:
        header = images.inspect(data, max_pixels=_ANY)  # what was meant is unknown here; memory is bounded anyway
        width, height = header.upright_px
        images.decode(data, header=header, short_side_px=_ONLY_TO_CHECK_PX)
    except ImageError as error:
        yield f"row {row['id']}: its picture can't be decoded ({error.message})"
        return
    if (width, height) != (row["image_width_px"], row["image_height_px"]):
        said = f"{row['image_width_px']} x {row['image_height_px']}"
        yield f"row {row['id']}: its picture is {width} x {height}, not {said}"


def _twice(ids: list[str], where: str) -> list[str]:
    return [f"{where}: {id} stands in it {count} times" for id, count in Counter(ids).items() if count > 1]
