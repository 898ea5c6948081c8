"""Delete the bytes of photos that were taken down by rewriting their shards.

A shard keeps its number and the order of its remaining rows. Its facts are deleted before the shard is rewritten, and
written again afterwards without the erased rows. So an interruption never leaves facts that don't match their shard;
run again to go on. At worst one shard is measured again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.crawl.shard_file import writer
from lhq.crawl.spool import Spool, open_numbers
from lhq.progress import OnProgress, silent
from lhq.records import with_added
from lhq.store import rechecked, remote, tombstones, verdicts
from lhq.store.atomic_file import write_atomically
from lhq.store.lock import locked
from lhq.store.shards import Shards


@dataclass(frozen=True)
class EraseReport:
    """What was deleted: `ids`, from the shards `shards`.

    `waiting` ids are in a shard that a crawl has still open. `quarantined` are files in quarantine, whose contents are
    unknown.
    """

    ids: tuple[str, ...]
    shards: tuple[int, ...]
    waiting: tuple[str, ...]
    quarantined: tuple[str, ...]


def erase(store: str, folder: str, *, on_progress: OnProgress = silent) -> EraseReport:
    """Delete bytes and papers of all photos that were taken down, including the same bytes under other ids.

    Args:
        folder: the local folder of the store, which holds a crawl's open shard.

    Raises:
        StoreError: a crawl is running, or the store can't be written; shards already rewritten stay so.
        ShardDamaged: a shard can't be read; run `lhq filter`, which moves it to quarantine.
    """
    removed = pa.array(sorted(tombstones.removed_ids(store)), pa.string())
    sums = pa.array(sorted(tombstones.removed_sha256(store)), pa.string())
    photos = Shards(store, "photos")
    ids: list[str] = []
    shards: list[int] = []
    with locked(folder, "crawl"):
        numbers = photos.numbers()
        for done, number in enumerate(numbers):
            on_progress("erasing", done, len(numbers))
            papers = photos.read(number, ["id", "sha256"])
            erased_ids = papers.filter(_is_removed(papers, removed, sums))["id"].to_pylist()
            if erased_ids:
                _erase(store, photos, number, removed, sums)
                ids += erased_ids
                shards.append(number)
        on_progress("erasing", len(numbers), len(numbers))
        gone = pa.concat_arrays([pa.array(ids, pa.string()), removed])
        _forget_verdicts(store, gone)
        rechecked.forget(store, gone)
        waiting = [id for number in open_numbers(folder) for id in _spooled(folder, number)]
    are_removed = pc.is_in(pa.array(waiting, pa.string()), removed).to_pylist()
    quarantine = Shards(store, "quarantine/photos")
    return EraseReport(
        tuple(dict.fromkeys(ids)),
        tuple(shards),
        tuple(id for id, is_removed in zip(waiting, are_removed, strict=True) if is_removed),
        tuple(f"{quarantine.root}/{name}" for name in remote.list_names(quarantine.fs, quarantine.root)),
    )


def _is_removed(rows: pa.Table, removed: pa.Array, sums: pa.Array) -> pa.ChunkedArray:
    return pc.or_(pc.is_in(rows["id"], removed), pc.is_in(rows["sha256"], sums))


def _erase(store: str, photos: Shards, number: int, removed: pa.Array, sums: pa.Array) -> None:
    """Erase the photos of one shard, and their facts of every measure."""
    erased_ids = photos.read(number, ["id", "sha256"])
    erased_ids = erased_ids.filter(_is_removed(erased_ids, removed, sums))["id"].combine_chunks()
    facts: list[tuple[Shards, pa.Table]] = []
    for shards in _facts_shards(store):
        if shards.exists(number):
            table = shards.read(number)
            facts.append((shards, table.filter(pc.invert(pc.is_in(table["id"], erased_ids)))))
            remote.delete(shards.fs, shards.path(number))

    def write(sink: IO[bytes]) -> None:
        with photos.open(number) as file, writer(sink, is_fresh=False) as out:
            old = pq.ParquetFile(file, pre_buffer=False)
            for group in range(old.num_row_groups):
                rows = with_added(old.read_row_group(group))
                kept = rows.filter(pc.invert(_is_removed(rows, removed, sums)))
                if len(kept):
                    out.write_table(kept.cast(out.schema))

    write_atomically(photos.fs, photos.path(number), write)
    for shards, table in facts:
        shards.write(number, table)


def _forget_verdicts(store: str, ids: pa.Array) -> None:
    """Remove these photos from the verdicts, if there are any yet."""
    table = verdicts.read(store)
    if table is None:
        return
    kept = table.filter(pc.invert(pc.is_in(table["id"], ids)))
    if len(kept) < len(table):
        verdicts.write(store, kept, judged_by=verdicts.judged_by(table))


def _facts_shards(store: str) -> list[Shards]:
    """The facts of every measure in the store."""
    facts = Shards(store, "facts")
    return [Shards(store, f"facts/{name}") for name in remote.list_names(facts.fs, facts.root)]


def _spooled(folder: str, number: int) -> list[str]:
    spool = Spool(folder, number)
    try:
        return [entry.id for entry in spool.entries]
    finally:
        spool.close()
