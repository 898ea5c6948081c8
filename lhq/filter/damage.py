"""Shards of photos that can't be read → `quarantine/`, each with a report; what could only not be reached stays."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lhq.engines import ShardReport
from lhq.errors import ShardDamaged
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


def unreadable(store: str) -> Iterator[ShardReport]:
    """Shards of photos that judging can't even read the ids of: facts made earlier hid the damage."""
    photos = Shards(store, "photos")

    def report(number: int) -> ShardReport | None:
        try:
            photos.read(number, ["id"])
        except ShardDamaged as error:
            return ShardReport(key(number), error=str(error), damaged=is_damage(error))
        return None

    with ThreadPoolExecutor(READERS) as readers:
        yield from (one for one in readers.map(report, photos.numbers()) if one)


def is_damage(error: ShardDamaged) -> bool:
    """False where the file may be whole, but could not be reached: the operating system or a service says why, by a
    number or a kind of error. What a reader finds wrong in a file's bytes has neither."""
    cause = error.__cause__
    if isinstance(cause, (PermissionError, ConnectionError, TimeoutError)):
        return False
    return not (isinstance(cause, OSError) and cause.errno is not None)


def quarantine(store: str, number: int, room: str = "photos") -> str:
    """Move a damaged shard aside; its new place."""
    photos = Shards(store, room)
    aside = Shards(store, f"quarantine/{room}")
    photos.fs.makedirs(aside.root, exist_ok=True)
    photos.fs.mv(photos.path(number), aside.path(number))
    return aside.path(number)
