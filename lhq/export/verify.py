"""A dataset's folder → its problems: nothing in it is believed, every picture is hashed and decoded.

Works on what `lhq export` writes, wherever it was copied since. A problem is a line that names the file and
the row; none means that the folder is whole.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lhq import images
from lhq.engines import Engine, Job, ShardReport
from lhq.errors import ImageError, InputError
from lhq.export import croissant, layout, manifest
from lhq.export.previous import data_files, failed_rows
from lhq.progress import OnProgress, silent
from lhq.records import PAPERS, PHOTO_SCHEMA

_BATCH_ROWS = 8
_READ_AHEAD_BYTES = 4 * 2**20
_NAMED_A_FILE = 20
_ONLY_TO_CHECK_PX = 96  # every byte is read at any scale
# Papers that must be word for word those of the manifest: what may be done with the photo, and where it is.
_SAME = ("source", "url", "page_url", "author", "licence", "sha256")


@dataclass
class VerifyReport:
    """What was looked at, and `problems`, one line each."""

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
        raise InputError(f"{folder}: no such folder", hint="give the folder that lhq export wrote")
    rows = manifest.read(folder)
    report = VerifyReport(folder, num_rows=len(rows))
    report.problems += _twice(rows["id"].to_pylist(), layout.MANIFEST)
    card = _card(folder, report.problems)
    configs = {str(one["config_name"]): one for one in card.get("configs", []) if isinstance(one, dict)}
    configs.pop("manifest", None)
    report.problems += _pages(folder, rows)
    report.problems += croissant.problems(folder)
    files = []
    for name in _folders(folder):
        found = list(data_files(os.path.join(folder, name)))
        report.problems += _names(folder, name)
        files += found
    report.problems += _counts(folder, card, configs)
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
        if layout.is_ours(name) and os.path.isdir(os.path.join(folder, name))
    ]


def _card(folder: str, problems: list[str]) -> dict[str, Any]:
    """The card's YAML; {} and a problem where there is none."""
    try:
        with open(os.path.join(folder, layout.CARD), encoding="utf-8") as file:
            parts = file.read().split("---\n", 2)
        card = yaml.safe_load(parts[1])
        if isinstance(card, dict):
            return card
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):
        pass
    problems.append(f"{layout.CARD}: no card with YAML")
    return {}


def _pages(folder: str, rows: pa.Table) -> Iterator[str]:
    for name in layout.PAGES:
        if not os.path.isfile(os.path.join(folder, name)):
            yield f"{name}: missing"
    try:
        credits = set(pq.read_table(os.path.join(folder, layout.CREDITS), columns=["id"])["id"].to_pylist())
    except (OSError, pa.ArrowException) as error:
        yield f"{layout.CREDITS}: not readable ({error})"
        return
    missing = set(rows["id"].to_pylist()) - credits
    if missing:
        yield f"{layout.CREDITS}: {len(missing):,} rows have no credit, for instance {min(missing)}"


def _names(folder: str, name: str) -> Iterator[str]:
    """Every data file of a split is there, once, and nothing else is."""
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
    """The card's rows a split against those in the files, and no folder that the card doesn't know."""
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
    """Checks one data file against the manifest; picklable. The report's `error` holds a line a problem."""

    folder: str

    def lacks(self) -> str:
        """The dataset's folder, where this machine can't see it."""
        return "" if os.path.isdir(self.folder) else f"{self.folder}: no such folder on this machine"

    def __call__(self, path: str) -> ShardReport:
        began = time.perf_counter()
        name = os.path.relpath(path, self.folder)
        problems: list[str] = []
        rows = 0
        try:
            with pq.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False) as file:
                problems += _columns(file.schema_arrow)
                if not problems:
                    papers = _Manifest(self.folder)
                    split = os.path.basename(path).split("-")[0]
                    for batch in file.iter_batches(_BATCH_ROWS):
                        for row in batch.to_pylist():
                            rows += 1
                            problems += papers.against(row, split)
                            problems += _picture(row)
                    problems += papers.left(split, failed_rows(path), file.metadata.num_rows, rows)
        except (OSError, pa.ArrowException) as error:
            problems.append(f"not readable ({error})")
        shown = [f"{name}: {' '.join(one.split())}" for one in problems[:_NAMED_A_FILE]]
        if len(problems) > _NAMED_A_FILE:
            shown.append(f"{name}: … and {len(problems) - _NAMED_A_FILE:,} more")
        return ShardReport(path, rows, len(problems), time.perf_counter() - began, "\n".join(shown))


def _columns(schema: pa.Schema) -> Iterator[str]:
    wanted = [pa.field("image", layout.IMAGE_TYPE), *(PHOTO_SCHEMA.field(name) for name in PAPERS)]
    for one in [*wanted, *layout.PICTURE_FIELDS]:
        if one.name not in schema.names:
            yield f"no column {one.name}"
        elif schema.field(one.name).type != one.type:
            yield f"column {one.name} is {schema.field(one.name).type}, not {one.type}"
    if b"huggingface" not in (schema.metadata or {}):
        yield "its schema doesn't say that image is a picture"


class _Manifest:
    """The manifest's papers by id, and which rows of a file were seen."""

    def __init__(self, folder: str) -> None:
        table = manifest.read(folder).select(["id", "split", *_SAME])
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
        for name in _SAME:
            if papers[name] != row[name]:
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
        width, height = images.inspect(data).upright_px
        images.decode(data, short_side_px=_ONLY_TO_CHECK_PX)
    except ImageError as error:
        yield f"row {row['id']}: its picture can't be decoded ({error.message})"
        return
    if (width, height) != (row["image_width_px"], row["image_height_px"]):
        said = f"{row['image_width_px']} x {row['image_height_px']}"
        yield f"row {row['id']}: its picture is {width} x {height}, not {said}"


def _twice(ids: list[str], where: str) -> list[str]:
    return [f"{where}: {id} stands in it {count} times" for id, count in Counter(ids).items() if count > 1]
