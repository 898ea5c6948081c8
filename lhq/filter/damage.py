"""Shards of photos that can't be read → `quarantine/`, each with a report; what could only not be reached stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from lhq.engines import ShardReport
from lhq.errors import ShardDamaged
from lhq.store import remote
from lhq.store.shards import Shards, key

READERS = 4
"""Shards read at once where only papers or facts are wanted: while one of many small files is opened, others are
unpacked."""

ROTTEN = "its bytes are not those that were fetched: their sha256 is another"


class FactsDamaged(ShardDamaged):
    """Facts of one shard are there, but not as they were written; they can be made again."""

    def __init__(self, message: str, *, hint: str, room: str, number: int) -> None:
        super().__init__(message, hint=hint)
        self.room, self.number = room, number


def read_ids(store: str) -> tuple[dict[int, pa.Array], list[ShardReport]]:
    """Ids of the photos by shard, and a report of each shard that can't even be asked for them: facts made earlier hid
    the damage.

    Raises:
        ShardDamaged: one that is only out of reach; verdicts without its photos would take the place of whole ones.
    """
    photos = Shards(store, "photos")

    def read(number: int) -> pa.Array | ShardReport:
        try:
            return photos.read(number, ["id"])["id"].combine_chunks()
        except ShardDamaged as error:
            if not is_damage(error):
                raise
            return ShardReport(key(number), error=str(error), damaged=True)

    numbers = photos.numbers()
    with ThreadPoolExecutor(READERS) as readers:
        found = dict(zip(numbers, readers.map(read, numbers), strict=True))
    ids = {number: one for number, one in found.items() if not isinstance(one, ShardReport)}
    return ids, [one for one in found.values() if isinstance(one, ShardReport)]


def is_damage(error: ShardDamaged) -> bool:
    """False where the file may be whole, but could not be reached: the operating system or a service says why, by a
    number or a kind of error. What a reader finds wrong in a file's bytes has neither."""
    cause = error.__cause__
    if isinstance(cause, (PermissionError, ConnectionError, TimeoutError)):
        return False
    return not (isinstance(cause, OSError) and cause.errno is not None)


def quarantine(store: str, number: int, room: str = "photos") -> str:
    """Move a damaged shard to quarantine; returns its new path."""
    photos = Shards(store, room)
    target = Shards(store, f"quarantine/{room}")
    with remote.translated(photos.path(number)):
        photos.fs.makedirs(target.root, exist_ok=True)
        photos.fs.mv(photos.path(number), target.path(number))
    return target.path(number)
