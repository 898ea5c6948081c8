"""Move unreadable shards to `quarantine/`, but not those that are only out of reach."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from lhq.engines import ShardReport
from lhq.errors import ShardDamaged
from lhq.store import remote
from lhq.store.shards import Shards, key

READERS = 4
"""Number of shards read concurrently for papers or facts: opening one small file overlaps with decompressing others."""

_MOST_BYTES = 2**32

ROTTEN = "its bytes are not those that were fetched: their sha256 is another"


class FactsDamaged(ShardDamaged):
    """A shard's facts exist but are damaged; they can be measured again."""

    def __init__(self, message: str, *, hint: str, folder: str, number: int) -> None:
        super().__init__(message, hint=hint)
        self.folder, self.number = folder, number


def read_ids(store: str) -> tuple[dict[int, pa.Array], list[ShardReport]]:
    """(ids of the photos by shard, reports of damaged shards). Finds damage in shards that are measured already.

    Raises:
        ShardDamaged: a shard is only out of reach; verdicts without its photos must not replace complete ones.
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
    """Whether the file's bytes are wrong, rather than the file out of reach.

    In the latter case the cause is an `OSError` with an errno, or a permission, connection or timeout error; so is a
    lack of memory, unless it was for more than any shard holds, which only wrong bytes ask for.
    """
    cause = error.__cause__
    if isinstance(cause, MemoryError):
        asked = re.search(r"of size (\d+)", str(cause))
        return asked is not None and int(asked[1]) > _MOST_BYTES
    if isinstance(cause, (PermissionError, ConnectionError, TimeoutError)):
        return False
    return not (isinstance(cause, OSError) and cause.errno is not None)


def footer_damage(facts: Shards, number: int) -> FactsDamaged | None:
    """The error of facts whose footer is damaged, so that nothing says which settings they are of."""
    try:
        facts.metadata(number)
    except FileNotFoundError:
        return None
    except ShardDamaged as error:
        if is_damage(error):
            return FactsDamaged(error.message, hint=error.hint, folder=facts.folder, number=number)
    return None


def set_aside(store: str, error: FactsDamaged) -> str:
    """Move damaged facts to quarantine, so that they are measured again; returns a note that says so."""
    return f"{error.message}: moved to {quarantine(store, error.number, error.folder)} and measured again"


def quarantine(store: str, number: int, folder: str = "photos") -> str:
    """Move a damaged shard to quarantine; returns its new path."""
    photos = Shards(store, folder)
    target = Shards(store, f"quarantine/{folder}")
    with remote.translate_errors(photos.path(number)):
        photos.fs.makedirs(target.root, exist_ok=True)
        photos.fs.mv(photos.path(number), target.path(number))
    return target.path(number)
