"""Rows + pictures → the data files of one variant.

Every data file records what made it (`lhq.fingerprint`): an up-to-date file in the unfinished folder or the earlier
export is reused; of the others, pictures rendered before are reused one by one, and only the rest is rendered. Row
groups are cells of `layout.Grid`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.engines import Engine
from lhq.errors import RunError
from lhq.export import layout
from lhq.export.layout import Variant
from lhq.export.previous import FAILED, FINGERPRINT, RENDER, Published, facts, failed_rows, is_rotten
from lhq.export.render import BYTES_A_PIXEL, Encoding
from lhq.export.render_job import Rendered, RenderJob, names_of, unit, write_wanted
from lhq.export.rows import PLACE_FIELDS
from lhq.export.work import Work
from lhq.progress import OnProgress
from lhq.store.atomic_file import write_atomically
from lhq.store.shards import Shards

_CHUNK_BYTES = 8 * 2**20  # of pictures: those of a row group are held as Arrow's, and this much as Python's
_RENDER_VERSION = 1  # raised when the code gives other bytes for the same photo and settings
log = logging.getLogger("lhq")
_DISK = fsspec.filesystem("file")
_PLACE = [field.name for field in PLACE_FIELDS]


@dataclass
class Written:
    """The result for one variant: rows and bytes by split, `failed` id → reason, and how much was new."""

    variant: Variant
    folder: str
    rows: dict[str, int] = field(default_factory=dict)
    size_bytes: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    ids: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
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


@dataclass(frozen=True)
class Places:
    """Where the photos are, where the unfinished dataset is (`part`), where an earlier export may be (`to`), the
    variant's folder in both, and where its pictures are rendered to."""

    store: str
    part: str
    to: str
    folder: str
    work: Work


@dataclass(frozen=True)
class Cut:
    """Approximate largest size of a data file and a row group, in bytes."""

    shard_bytes: int
    group_bytes: int


class Assembly:
    """Writes one variant into `<part>/<folder>`.

    Args:
        rows: the rows to publish, sorted by place, with `PLACE_FIELDS`.
        columns: the columns of `rows` beside the papers.
    """

    def __init__(
        self, places: Places, rows: pa.Table, columns: Sequence[pa.Field], encoding: Encoding, cut: Cut
    ) -> None:
        self.store, self.part, self.to, self.folder = places.store, places.part, places.to, places.folder
        self.rows, self.encoding, self.variant, self.cut = rows, encoding, encoding.variant, cut
        self.work, self._units_rendered = places.work, list[str]()
        self.render_key = f"{_RENDER_VERSION} {encoding.key}"
        self.schema = layout.row_schema(columns, {RENDER: self.render_key})

    def write(self, engine: Engine, on_progress: OnProgress) -> Written:
        """All data files of the variant.

        Raises:
            RunError: photo shards could not be read; everything else is rendered and will be found again.
            StoreError: the disk is full.
        """
        done = Written(self.variant, self.folder)
        os.makedirs(os.path.join(self.part, self.folder), exist_ok=True)
        files = [file for split in layout.SPLITS for file in self._files(split)]
        self._forget_others({os.path.basename(file.path) for file in files})
        missing = [file for file in files if not self._holds(file)]
        done.shards_written, done.shards_reused = len(missing), len(files) - len(missing)
        if missing:
            earlier = Published(self.to, self.folder, self.render_key)
            rendered = self._render(missing, earlier, engine, on_progress, done)
            for number, file in enumerate(missing):
                on_progress(f"{self.variant.name}: writing shards", number, len(missing))
                self._write(file, rendered, earlier)
            on_progress(f"{self.variant.name}: writing shards", len(missing), len(missing))
        self.work.clear(names_of(self._units_rendered))
        for file in files:
            failed = failed_rows(file.path)
            done.failed.update(failed)
            done.rows[file.split] = done.rows.get(file.split, 0) + len(file.rows) - len(failed)
            done.size_bytes[file.split] = done.size_bytes.get(file.split, 0) + os.path.getsize(file.path)
        for split in [split for split, num in done.rows.items() if not num]:  # no loader takes a split without rows
            del done.rows[split], done.size_bytes[split]
            for file in files:
                if file.split == split:
                    os.unlink(file.path)
        ids = self.rows["id"].combine_chunks()
        done.ids = ids.filter(pc.invert(pc.is_in(ids, pa.array(sorted(done.failed), pa.string()))))
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
        grid = layout.grid(size, shard_bytes=self.cut.shard_bytes, group_bytes=self.cut.group_bytes)
        cells = grid.cells(rows["place"].to_numpy())
        edges = np.searchsorted(cells, np.arange(grid.num_shards * grid.num_groups + 1)).tolist()
        files = []
        for shard in range(grid.num_shards):
            cuts = edges[shard * grid.num_groups : (shard + 1) * grid.num_groups + 1]
            groups = [rows.slice(a, b - a) for a, b in itertools.pairwise(cuts) if b > a]
            mine = rows.slice(cuts[0], cuts[-1] - cuts[0])
            path = os.path.join(self.part, self.folder, layout.data_file(split, shard, grid.num_shards))
            files.append(_File(path, split, mine, groups, self._fingerprint(mine, grid.num_groups)))
        return files

    def _fingerprint(self, rows: pa.Table, num_groups: int) -> str:
        """A hash of everything that decides the file's bytes: rows, rendering, columns, row groups."""
        made = hashlib.sha256(f"{self.render_key} {num_groups} {self.schema}".encode())
        sink = io.BytesIO()
        pq.write_table(rows.drop_columns(["shard", "row"]), sink, compression="none", store_schema=False)
        made.update(sink.getbuffer())
        return made.hexdigest()

    def _forget_others(self, names: set[str]) -> None:
        """Delete data files of an interrupted export with other rows or settings."""
        folder = os.path.join(self.part, self.folder)
        for name in set(os.listdir(folder)) - names:
            if facts(os.path.join(folder, name)).get(FINGERPRINT):
                os.unlink(os.path.join(folder, name))

    def _holds(self, file: _File) -> bool:
        """Whether the file is there and right, or was in the earlier export (then it is taken over)."""
        if facts(file.path).get(FINGERPRINT) == file.fingerprint:
            return True
        earlier = os.path.join(self.to, self.folder, os.path.basename(file.path))
        if facts(earlier).get(FINGERPRINT) != file.fingerprint:
            return False
        if is_rotten(self.to, earlier):
            log.warning("%s: its bytes have changed since it was written; it is written anew", earlier)
            return False
        if os.path.exists(file.path):
            os.unlink(file.path)
        os.link(earlier, file.path)  # data files are never changed in place, so two names may share one
        return True

    def _render(
        self, missing: list[_File], earlier: Published, engine: Engine, on_progress: OnProgress, done: Written
    ) -> Rendered:
        """Render what the missing files need and no earlier export has, by photo row group, on the engine."""
        rows = pa.concat_tables([file.rows for file in missing]).select(["id", "sha256", "shard", "row"])
        has = zip(rows["id"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
        rows = rows.filter(pa.array([key not in earlier for key in has], pa.bool_()))
        units = self._units(rows)
        write_wanted(self.work, rows.select(["id", "sha256"]).append_column("unit", pa.array(units, pa.string())))
        job = RenderJob(self.store, self.work, self.encoding)
        keys, errors, finished = sorted(set(units)), [], 0
        self._units_rendered = keys
        on_progress(f"{self.variant.name}: rendering", 0, len(rows))
        for report in engine.map(job, keys, "cpu"):
            finished += report.rows
            if report.error:
                errors.append(f"{report.key}: {report.error}")
            on_progress(f"{self.variant.name}: rendering", finished, len(rows))
        if errors:
            raise RunError(
                f"{len(errors)} of {len(keys)} row groups could not be rendered, the first: {errors[0]}",
                hint="fix them and run the same command again: rendered pictures are kept",
            )
        rendered = Rendered(self.work, keys)
        done.pictures_rendered = len(rows) - len(rendered.failed)
        return rendered

    def _units(self, rows: pa.Table) -> list[str]:
        """For each row, the row group of the photo shard that holds its bytes."""
        photos = Shards(self.store, "photos")
        of_shard, of_row = rows["shard"].to_numpy(), rows["row"].to_numpy()
        groups = np.empty(len(rows), np.int64)
        for shard in np.unique(of_shard).tolist():
            with photos.open(shard) as file:
                metadata = pq.ParquetFile(file, pre_buffer=False).metadata
                sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            mine = of_shard == shard
            groups[mine] = np.searchsorted(np.cumsum(sizes), of_row[mine], "right")
        return [unit(shard, group) for shard, group in zip(of_shard.tolist(), groups.tolist(), strict=True)]

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
                    del table
                    pa.default_memory_pool().release_unused()  # or it would keep the largest row group for good

        write_atomically(_DISK, file.path, write)

    def _with_pictures(self, rows: pa.Table, rendered: Rendered, earlier: Published, schema: pa.Schema) -> pa.Table:
        """The rows that could be rendered, with their pictures: one row group in memory, once."""
        rows = rows.filter(pa.array([id not in rendered.failed for id in rows["id"].to_pylist()], pa.bool_()))
        rows = rows.combine_chunks()
        papers = (rows[name].to_pylist() for name in ("id", "sha256", "format"))
        chunks: list[pa.Array] = []
        held: list[dict[str, object]] = []
        made: list[tuple[str, int, int]] = []
        size = 0
        for id, sha256, format in zip(*papers, strict=True):
            picture = rendered.read(id) if id in rendered else earlier.read((id, sha256))
            made.append((picture.sha256, picture.width_px, picture.height_px))
            held.append({"bytes": picture.data, "path": _file_name(id, self.variant.format or format)})
            size += len(picture.data)
            if size >= _CHUNK_BYTES:
                chunks.append(pa.array(held, layout.IMAGE_TYPE))
                held, size = [], 0
        chunks.append(pa.array(held, layout.IMAGE_TYPE))
        columns: dict[str, Any] = {"image": pa.chunked_array(chunks)}
        for at, fact in enumerate(layout.PICTURE_FIELDS):
            columns[fact.name] = pa.array([one[at] for one in made], fact.type)
        return pa.table([columns[name] if name in columns else rows[name] for name in schema.names], schema=schema)


def _file_name(id: str, format: str) -> str:
    """A file name for the picture of an id, with one ending: that of its bytes."""
    stem = re.sub(r"\.(jpe?g|jpe|jfif|png|webp|gif|tiff?|bmp)$", "", id, flags=re.IGNORECASE)
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', stem)}.{layout.ENDINGS.get(format, format)}"


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Parquet as the Hub recommends: pictures as they are, page index, content-defined chunks."""
    words = [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in schema]
    words.remove("image")
    return {
        "compression": {"image.bytes": "none", "image.path": "zstd", **dict.fromkeys(words, "zstd")},
        "use_dictionary": ["image.path", *words],
        "write_statistics": words,
        "write_page_index": True,
        "write_page_checksum": True,
        "use_content_defined_chunking": True,
    }
