"""Photos that the filter found broken → the same rows with fresh bytes: `lhq crawl --retry-failed corrupt`.

The check on arrival decodes nothing, so a photo can look complete by its structure and still be corrupt inside. The
filter's facts say which and why. Such a photo is fetched once more; if other bytes come, they take the old ones'
place in its shard, so that number, order and id stay, and the shard's facts are removed, which makes the filter
measure it again. It is decoded in a process of its own, which it may kill as it did the filter's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.crawl.papers import now, papers_of
from lhq.crawl.shard_file import writer
from lhq.errors import FetchError, ImageError, ShardDamaged
from lhq.images import Header, decode, inspect, max_pixels_limit, set_max_pixels
from lhq.processes import Died, HelperProcess
from lhq.records import PHOTO_SCHEMA, Candidate, with_added
from lhq.store import remote
from lhq.store.atomic_file import write_atomically
from lhq.store.shards import Shards

ROTTEN = "damaged"
"""The reason of photos whose bytes in the shard are not those that were fetched: what comes may be what once came."""

# Columns that tell of the bytes; the rest of a row's papers stay as they were.
_OF_BYTES = ("sha256", "size_bytes", "format", "width_px", "height_px", "orientation", "fetched_at")


@dataclass(frozen=True, slots=True)
class Refetched:
    """The result: photos with fresh bytes, those just as broken at their source, and those that could not be fetched
    (gone, no answer).
    """

    num_fresh: int
    num_same: int
    num_failed: int


def refetch(
    store: str,
    reasons: Sequence[str],
    candidates_of: Callable[[Sequence[str]], Iterable[Candidate]],
    fetch: Callable[[Candidate], bytes | bytearray],
) -> Refetched:
    """Fetch photos again whose facts name one of `reasons` as their error.

    Args:
        candidates_of: ids → their candidates; unknown ids are left out.
        fetch: raises FetchError where the bytes can't be had.

    Raises:
        StoreError: a shard can't be written; the old one stays.
        ShardDamaged: a shard can't be read.
    """
    with HelperProcess(_header_of_whole) as helper:
        return _refetch(store, reasons, candidates_of, lambda candidate: _fetched(candidate, fetch, helper))


def _refetch(
    store: str,
    reasons: Sequence[str],
    candidates_of: Callable[[Sequence[str]], Iterable[Candidate]],
    row_of: Callable[[Candidate], dict[str, object] | None],
) -> Refetched:
    photos = Shards(store, "photos")
    num_fresh = num_same = num_failed = 0
    for number in photos.numbers():
        broken = _broken(store, number, reasons)
        rotten = _broken(store, number, [ROTTEN])
        if not broken:
            continue
        papers = photos.read(number, ["id", "sha256"])
        old = dict(zip(papers["id"].to_pylist(), papers["sha256"].to_pylist(), strict=True))
        fresh: dict[str, dict[str, object]] = {}
        for candidate in candidates_of(sorted(broken & old.keys())):
            try:
                row = row_of(candidate)
            except FetchError:
                num_failed += 1
                continue
            is_as_before = row is not None and row["sha256"] == old[candidate.id]
            if row is None or (is_as_before and candidate.id not in rotten):
                num_same += 1
            else:
                fresh[candidate.id] = row
        if fresh:
            _replace(photos, number, fresh)
            for facts_shards in _facts_shards(store):
                if facts_shards.exists(number):
                    remote.delete(facts_shards.fs, facts_shards.path(number))
            num_fresh += len(fresh)
    return Refetched(num_fresh, num_same, num_failed)


def _facts_shards(store: str) -> list[Shards]:
    """The facts rooms that exist."""
    facts = Shards(store, "facts")
    return [Shards(store, f"facts/{name}") for name in remote.list_names(facts.fs, facts.root)]


def _broken(store: str, number: int, reasons: Sequence[str]) -> set[str]:
    """Ids of one shard whose facts name one of `reasons`."""
    found: set[str] = set()
    for facts_shards in _facts_shards(store):
        try:
            facts = facts_shards.read(number)
        except (FileNotFoundError, ShardDamaged):
            continue  # not measured yet, or due to be measured again anyway
        if {"id", "error"} <= set(facts.column_names):
            chosen = facts.filter(pc.is_in(facts["error"], pa.array(list(reasons), pa.string())))
            found.update(chosen["id"].to_pylist())
    return found


def _fetched(
    candidate: Candidate,
    fetch: Callable[[Candidate], bytes | bytearray],
    helper: HelperProcess[[bytes | bytearray, int], Header],
) -> dict[str, object] | None:
    """The row's new values, or None where the new bytes are not a whole picture."""
    data = fetch(candidate)
    try:
        header = helper(data, max_pixels_limit())
    except ImageError:
        return None
    if isinstance(header, Died):
        return None
    papers = papers_of(candidate, header, candidate.url, now())
    return {"image": bytes(data), **{name: papers[name] for name in _OF_BYTES}}


def _header_of_whole(data: bytes | bytearray, max_pixels: int) -> Header:
    """The header of a picture that can be decoded to its end.

    Raises:
        ImageError: it can't.
    """
    set_max_pixels(max_pixels)
    header = inspect(data)
    decode(data, header=header, short_side_px=96)  # every byte is read at any scale
    return header


def _replace(photos: Shards, number: int, fresh: dict[str, dict[str, object]]) -> None:
    """Rewrite the shard with these rows changed, a row group at a time."""

    def write(sink: IO[bytes]) -> None:
        with photos.open(number) as file, writer(sink, is_fresh=False) as out:
            old = pq.ParquetFile(file, pre_buffer=False)
            for group in range(old.num_row_groups):
                out.write_table(_changed(with_added(old.read_row_group(group)), fresh))

    write_atomically(photos.fs, photos.path(number), write)


def _changed(table: pa.Table, fresh: dict[str, dict[str, object]]) -> pa.Table:
    parts, last = [], 0
    for at, id in enumerate(table["id"].to_pylist()):
        if id in fresh:
            row = {**table.slice(at, 1).drop_columns(["image"]).to_pylist()[0], **fresh[id]}
            parts += [table.slice(last, at - last), pa.Table.from_pylist([row], PHOTO_SCHEMA)]
            last = at + 1
    return pa.concat_tables([*parts, table.slice(last)]).cast(PHOTO_SCHEMA).combine_chunks()
