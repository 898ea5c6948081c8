"""Rows + pictures → the data files of one variant.

Every data file states what made it (`lhq.fingerprint`): a file that holds already, in the unfinished folder
or in the earlier export, is taken over whole; of the others, pictures that were rendered before are taken over
one by one, and only the rest is rendered. Row groups are cells of `dataset.Grid`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq import dataset
from lhq.dataset import Variant
from lhq.engines import Engine
from lhq.errors import RunError
from lhq.published import FAILED, FINGERPRINT, RENDER, Published, facts, failed_rows
from lhq.render import BYTES_A_PIXEL
from lhq.rendered import Rendered, RenderJob, unit
from lhq.rows import PLACE_FIELDS
from lhq.shards import Shards, write_whole

Told = Callable[[str, int, int], None]
"""Called with (what, done, of) as the work goes on."""

_RENDER_VERSION = 1  # raised when the code gives other bytes for the same photo and settings
_DISK = fsspec.filesystem("file")
_PLACE = [field.name for field in PLACE_FIELDS]


@dataclass
class Written:
    """What became of one variant: rows and bytes by split, `failed` id → reason, and how much was new."""

    variant: Variant
    folder: str
    rows: dict[str, int] = field(default_factory=dict)
    size_bytes: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    shards_written: int = 0
    shards_reused: int = 0
    pictures_rendered: int = 0


@dataclass(frozen=True)
class _File:
    path: str
    split: str
    rows: pa.Table
    groups: list[pa.Table]
    fingerprint: str


class Assembly:
    """Writes one variant into `<aside>/<folder>`.

    Args:
        store: where the photos are.
        rows: the rows to publish, sorted by place, with `PLACE_FIELDS`.
        scores: the score columns of `rows`.
        to: the folder that an earlier export may have left.
        shard_bytes: about how large a file may be; `group_bytes` about how large a row group.
    """

    def __init__(
        self, store: str, rows: pa.Table, scores: tuple[pa.Field, ...], variant: Variant, quality: int,
        *, aside: str, to: str, folder: str, shard_bytes: int, group_bytes: int,
    ) -> None:  # fmt: skip
        self.store, self.rows, self.variant, self.quality = store, rows, variant, quality
        self.aside, self.to, self.folder = aside, to, folder
        self.work = os.path.join(aside, ".work", variant.name)
        lossy = f" q{quality}" if variant.format in {"jpeg", "webp"} else ""
        self.render_key = f"{_RENDER_VERSION} {variant.key}{lossy}"
        self.schema = dataset.row_schema(scores, {RENDER: self.render_key})
        self.shard_bytes, self.group_bytes = shard_bytes, group_bytes

    def write(self, engine: Engine, told: Told) -> Written:
        """All data files of the variant.

        Raises:
            RunError: photo shards could not be read; everything else is rendered and will be found again.
            StoreError: the disk is full.
        """
        done = Written(self.variant, self.folder)
        os.makedirs(os.path.join(self.aside, self.folder), exist_ok=True)
        files = [file for split in dataset.SPLITS for file in self._files(split)]
        self._forget_others({os.path.basename(file.path) for file in files})
        missing = [file for file in files if not self._holds(file)]
        done.shards_written, done.shards_reused = len(missing), len(files) - len(missing)
        if missing:
            earlier = Published(os.path.join(self.to, self.folder), self.render_key)
            rendered = self._render(missing, earlier, engine, told, done)
            for number, file in enumerate(missing):
                told(f"{self.variant.name}: writing shards", number, len(missing))
                self._write(file, rendered, earlier)
            told(f"{self.variant.name}: writing shards", len(missing), len(missing))
        shutil.rmtree(self.work, ignore_errors=True)
        for file in files:
            failed = failed_rows(file.path)
            done.failed.update(failed)
            done.ids.update(set(file.rows["id"].to_pylist()) - failed.keys())
            done.rows[file.split] = done.rows.get(file.split, 0) + len(file.rows) - len(failed)
            done.size_bytes[file.split] = done.size_bytes.get(file.split, 0) + os.path.getsize(file.path)
        return done

    def _files(self, split: str) -> list[_File]:
        """The files of one split, with their rows cut into row groups; none for a split without rows."""
        rows = self.rows.filter(pc.equal(self.rows["split"], split))
        if not len(rows):
            return []
        if self.variant.side_px is None:
            size = pc.sum(rows["size_bytes"]).as_py()
        else:
            size = len(rows) * self.variant.side_px**2 * BYTES_A_PIXEL[self.variant.format]
        grid = dataset.grid(size, shard_bytes=self.shard_bytes, group_bytes=self.group_bytes)
        cells = [grid.cell(place) for place in rows["place"].to_pylist()]
        flat = np.asarray([shard * grid.num_groups + group for shard, group in cells])
        edges = np.searchsorted(flat, np.arange(grid.num_shards * grid.num_groups + 1)).tolist()
        files = []
        for shard in range(grid.num_shards):
            cuts = edges[shard * grid.num_groups : (shard + 1) * grid.num_groups + 1]
            groups = [rows.slice(a, b - a) for a, b in itertools.pairwise(cuts) if b > a]
            mine = rows.slice(cuts[0], cuts[-1] - cuts[0])
            path = os.path.join(self.aside, self.folder, dataset.data_file(split, shard, grid.num_shards))
            files.append(_File(path, split, mine, groups, self._fingerprint(mine, grid.num_groups)))
        return files

    def _fingerprint(self, rows: pa.Table, num_groups: int) -> str:
        """Of everything that makes the file's bytes: the rows, the way of rendering, the columns, the cut."""
        made = hashlib.sha256(f"{self.render_key} {num_groups} {self.schema}".encode())
        sink = io.BytesIO()
        pq.write_table(rows.drop_columns(["shard", "row"]), sink, compression="none", store_schema=False)
        made.update(sink.getbuffer())
        return made.hexdigest()

    def _forget_others(self, names: set[str]) -> None:
        """Data files of another cut, from an interrupted export with other rows or settings."""
        folder = os.path.join(self.aside, self.folder)
        for name in set(os.listdir(folder)) - names:
            os.unlink(os.path.join(folder, name))

    def _holds(self, file: _File) -> bool:
        """Whether the file is there and right, or was in the earlier export (then it is taken over)."""
        if facts(file.path).get(FINGERPRINT) == file.fingerprint:
            return True
        earlier = os.path.join(self.to, self.folder, os.path.basename(file.path))
        if facts(earlier).get(FINGERPRINT) != file.fingerprint:
            return False
        if os.path.exists(file.path):
            os.unlink(file.path)
        os.link(earlier, file.path)  # data files are never changed in place, so two names may share one
        return True

    def _render(self, missing: list[_File], earlier: Published, engine: Engine, told: Told, done: Written) -> Rendered:
        """What the missing files need and no earlier export has, by photo row group, through the engine."""
        rows = pa.concat_tables([file.rows for file in missing]).select(["id", "sha256", "shard", "row"])
        has = zip(rows["id"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
        rows = rows.filter(pa.array([key not in earlier for key in has], pa.bool_()))
        units = self._units(rows)
        wanted = os.path.join(self.work, "wanted.parquet")
        table = rows.select(["id", "sha256"]).append_column("unit", pa.array(units, pa.string()))
        write_whole(_DISK, wanted, lambda sink: pq.write_table(table, sink))
        job = RenderJob(self.store, self.work, wanted, self.variant, self.quality)
        keys, errors, finished = sorted(set(units)), [], 0
        told(f"{self.variant.name}: rendering", 0, len(rows))
        for report in engine.map(job, keys, "cpu"):
            finished += report.rows
            if report.error:
                errors.append(f"{report.key}: {report.error}")
            told(f"{self.variant.name}: rendering", finished, len(rows))
        if errors:
            raise RunError(
                f"{len(errors)} of {len(keys)} row groups could not be rendered, the first: {errors[0]}",
                hint="mend them and run the same command again: what is rendered is kept",
            )
        rendered = Rendered(self.work, keys)
        done.pictures_rendered = len(rows) - len(rendered.failed)
        return rendered

    def _units(self, rows: pa.Table) -> list[str]:
        """For each row, the row group of the photo shard that holds its bytes."""
        photos = Shards(self.store, "photos")
        edges: dict[int, np.ndarray] = {}
        for shard in sorted(set(rows["shard"].to_pylist())):
            with photos.fs.open(photos.path(shard), "rb") as file:
                metadata = pq.ParquetFile(file).metadata
                sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            edges[shard] = np.cumsum(sizes)
        places = zip(rows["shard"].to_pylist(), rows["row"].to_pylist(), strict=True)
        return [unit(shard, int(np.searchsorted(edges[shard], row, "right"))) for shard, row in places]

    def _write(self, file: _File, rendered: Rendered, earlier: Published) -> None:
        failed = {id: rendered.failed[id] for id in file.rows["id"].to_pylist() if id in rendered.failed}
        metadata = {FINGERPRINT: file.fingerprint, FAILED: json.dumps(failed)}
        schema = self.schema.with_metadata({**self.schema.metadata, **metadata})

        def write(sink: IO[bytes]) -> None:
            with pq.ParquetWriter(sink, schema, **_options(schema)) as writer:
                for rows in file.groups:
                    table = self._with_pictures(rows, rendered, earlier, schema)
                    if len(table):
                        writer.write_table(table, row_group_size=len(table))

        write_whole(_DISK, file.path, write)

    def _with_pictures(self, rows: pa.Table, rendered: Rendered, earlier: Published, schema: pa.Schema) -> pa.Table:
        """The rows that could be rendered, with their pictures: one row group in memory."""
        rows = rows.filter(pa.array([id not in rendered.failed for id in rows["id"].to_pylist()], pa.bool_()))
        pictures = []
        for id, sha256 in zip(rows["id"].to_pylist(), rows["sha256"].to_pylist(), strict=True):
            pictures.append(rendered.read(id) if id in rendered else earlier.read((id, sha256)))
        formats = rows["format"].to_pylist()
        names = [
            _file_name(id, self.variant.format or found)
            for id, found in zip(rows["id"].to_pylist(), formats, strict=True)
        ]
        columns: dict[str, Any] = {
            "image": pa.StructArray.from_arrays(
                [pa.array([one.data for one in pictures], pa.binary()), pa.array(names, pa.string())],
                fields=list(dataset.IMAGE_TYPE),
            ),
            "image_sha256": pa.array([one.sha256 for one in pictures], pa.string()),
            "image_width_px": pa.array([one.width_px for one in pictures], pa.int32()),
            "image_height_px": pa.array([one.height_px for one in pictures], pa.int32()),
        }
        return pa.table(
            [columns.get(name, rows[name] if name in rows.column_names else None) for name in schema.names],
            schema=schema,
        )


def _file_name(id: str, format: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', id)}.{dataset.ENDINGS.get(format, format)}"


def _options(schema: pa.Schema) -> dict[str, Any]:
    """How the Hub wants its Parquet: pictures as they are, page index, content-defined chunks."""
    words = [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in schema]
    words.remove("image")
    return {
        "compression": {"image.bytes": "none", "image.path": "zstd", **dict.fromkeys(words, "zstd")},
        "use_dictionary": ["image.path", *words],
        "write_statistics": words,
        "write_page_index": True,
        "use_content_defined_chunking": True,
    }
