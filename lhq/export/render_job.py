"""Photo shards → rendered pictures, concatenated in files with an index each.

Photos are stored in crawl order and published in shuffled order. So each row group is rendered by one process, in
stored order, into a file with random access; the export shards are then written from these files, one row group at a
time. Memory does not grow with the number of photos.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.engines import Job, ShardReport
from lhq.engines.isolated import isolated
from lhq.errors import ImageError, ShardDamaged
from lhq.export.render import Encoding, Picture
from lhq.export.work import WANTED, Work
from lhq.images import max_pixels_limit, set_max_pixels
from lhq.processes import Died
from lhq.store.shards import Shards

_READ_AHEAD_BYTES = 4 * 2**20


def unit(shard: int, group: int) -> str:
    """The key of one row group of one photo shard, the unit of rendering."""
    return f"{shard:06d}-{group:04d}"


@dataclass(frozen=True)
class RenderJob(Job):
    """Renders the wanted photos of one row group; picklable. Returns at once if that was done before.

    Args:
        store: the store whose photos are rendered.
        work: holds this variant's rendered pictures and the list of photos to render (`write_wanted`).
    """

    store: str
    work: Work
    encoding: Encoding
    is_by_row: bool = False
    max_pixels: int = field(default_factory=max_pixels_limit)

    def by_row(self) -> RenderJob:
        return replace(self, is_by_row=True)

    def lacks(self) -> str:
        """The store or the work folder, if this machine can't reach it."""
        if not Shards(self.store, "photos").numbers():
            return f"no photos at {self.store}: every node must reach the store by this address"
        return self.work.lacks()

    def __call__(self, key: str) -> ShardReport:
        began = time.perf_counter()
        set_max_pixels(self.max_pixels)
        wanted = _wanted(self.work, key)
        fingerprint = hashlib.sha256(f"{self.encoding.key} {sorted(wanted.items())}".encode()).hexdigest()
        entries = _index(self.work, key, fingerprint)
        if entries is None:
            try:
                entries = self._render(key, wanted, fingerprint)
            except ShardDamaged as error:
                return ShardReport(key, error=str(error), seconds=time.perf_counter() - began)
        failed = sum(bool(entry["reason"]) for entry in entries)
        return ShardReport(key, len(entries), failed, time.perf_counter() - began)

    def _render(self, key: str, wanted: dict[str, str], fingerprint: str) -> list[dict[str, Any]]:
        shard, group = (int(part) for part in key.split("-"))
        entries: list[dict[str, Any]] = []

        def write(sink: object) -> None:
            start = 0
            for id, data in _photos(self.store, shard, group, wanted):
                picture = self._picture(data, wanted[id])
                if isinstance(picture, str):
                    entries.append(_entry(id, start, Picture(b"", "", 0, 0), picture))
                    continue
                sink.write(picture.data)  # type: ignore[attr-defined]
                entries.append(_entry(id, start, picture, ""))
                start += len(picture.data)

        self.work.write(f"{key}.bin", write)
        index = json.dumps({"fingerprint": fingerprint, "photos": entries}).encode()
        self.work.write(f"{key}.json", lambda sink: sink.write(index))
        return entries

    def _picture(self, data: bytes, sha256: str) -> Picture | str:
        """The picture, or the reason why there is none."""
        try:
            if not self.is_by_row:
                return self.rendered(data, sha256)
            done = isolated(partial(self.rendered, data, sha256))
        except ImageError as error:
            return f"{error.reason}: {error.message}"
        return f"crashed: the process that rendered it died of {done.how}" if isinstance(done, Died) else done

    def rendered(self, data: bytes, sha256: str) -> Picture:
        """One photo in this variant.

        Raises:
            ImageError: see `lhq.export.render`.
        """
        return self.encoding.render(data, sha256)


def names_of(keys: Iterable[str]) -> list[str]:
    """All files that rendering these units creates."""
    found = {f"{WANTED}/{key[:6]}.parquet" for key in keys}
    return sorted(found.union(*({f"{key}.bin", f"{key}.json"} for key in keys)))


def write_wanted(work: Work, wanted: pa.Table) -> None:
    """Write the list of photos to render (`id`, `sha256`, `unit`), one file per photo shard, so that jobs read only
    their own."""
    shards = pc.utf8_slice_codeunits(wanted["unit"], 0, 6)
    for shard in pc.unique(shards):
        mine = wanted.filter(pc.equal(shards, shard))
        work.write(f"{WANTED}/{shard}.parquet", partial(pq.write_table, mine))


def _wanted(work: Work, key: str) -> dict[str, str]:
    """id → sha256 of the photos that one unit is to render."""
    # Not `pq.read_table`, which loads Arrow's dataset engine, nor a filter by Arrow, which loads pandas: half and a
    # quarter of a second a process.
    with pq.ParquetFile(work.open(f"{WANTED}/{key[:6]}.parquet"), pre_buffer=False) as file:
        rows = file.read(["id", "sha256", "unit"], use_threads=False)
    columns = (rows[name].to_pylist() for name in ("id", "sha256", "unit"))
    return {id: sha256 for id, sha256, place in zip(*columns, strict=True) if place == key}


def _entry(id: str, start: int, picture: Picture, reason: str) -> dict[str, Any]:
    """A photo in the index: where its bytes are, or why there are none."""
    return {
        "id": id,
        "start": start,
        "length": len(picture.data),
        "sha256": picture.sha256,
        "width_px": picture.width_px,
        "height_px": picture.height_px,
        "reason": reason,
    }


def _photos(store: str, shard: int, group: int, wanted: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """(id, bytes) of the wanted photos of one row group, one in memory at a time."""
    shards = Shards(store, "photos")
    path = shards.path(shard)
    left = set(wanted)
    try:
        with shards.open(shard) as file:
            parquet = pq.ParquetFile(file, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)
            for batch in parquet.iter_batches(1, row_groups=[group], columns=["id", "image"], use_threads=False):
                for id, data in zip(batch["id"].to_pylist(), batch["image"], strict=True):
                    if id in left:
                        left.discard(id)
                        yield id, data.as_py()
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(
            f"{path}: not readable ({error})",
            hint="`lhq filter` moves it to quarantine/; photos come back by: lhq crawl PIPELINE --retry-failed damaged",
        ) from error
    if left:
        raise ShardDamaged(f"{path}: changed while it was exported", hint="run the same command again")


def _index(work: Work, key: str, fingerprint: str = "") -> list[dict[str, Any]] | None:
    """The entries of one unit; None if it is not rendered, or not from `fingerprint` where that is given.

    JSON, as making an Arrow table imports pandas: a quarter of a second in every worker.
    """
    try:
        index = json.loads(work.read(f"{key}.json"))
    except FileNotFoundError:
        return None
    entries: list[dict[str, Any]] = index["photos"]
    return entries if fingerprint in ("", index["fingerprint"]) else None


class Rendered:
    """The rendered pictures of one variant, read by id.

    `failed` maps the id of every photo that could not be rendered to its reason.
    """

    def __init__(self, work: Work, units: list[str]) -> None:
        self._work = work
        self._at: dict[str, tuple[str, int, int, str, int, int]] = {}
        self.failed: dict[str, str] = {}
        for key in units:
            for row in _index(work, key) or []:
                if row["reason"]:
                    self.failed[row["id"]] = row["reason"]
                else:
                    place = (
                        f"{key}.bin",
                        row["start"],
                        row["length"],
                        row["sha256"],
                        row["width_px"],
                        row["height_px"],
                    )
                    self._at[row["id"]] = place

    def __contains__(self, id: str) -> bool:
        return id in self._at

    def read(self, id: str) -> Picture:
        """The picture of a photo that was rendered."""
        name, start, length, sha256, width, height = self._at[id]
        return Picture(self._work.read_part(name, start, length), sha256, width, height)
