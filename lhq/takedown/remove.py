"""Ids or page URLs → tombstones: excluded from the next export, never crawled again.

A tombstone excludes a photo from every export, and prevents its id, and its bytes under any other id, from being
crawled again. The photo stays in its shard until `lhq.takedown.erase` deletes it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lhq.errors import InputError
from lhq.store import tombstones
from lhq.store.shards import Shards
from lhq.takedown.remaining_copies import RemainingCopy
from lhq.text_file import read_text

_ID = re.compile(r"[a-z][a-z0-9_]*:\S+")


@dataclass(frozen=True)
class RemoveReport:
    """The result of a takedown.

    `new` are the ids taken down now, `known` those taken down earlier, `unseen` those that the store doesn't hold (they
    are excluded from now on). `duplicates` maps near-duplicates to what each is a version of; they are taken down too
    if `are_taken`. `num_unmeasured` photos could not be compared. `copies` are places that still hold removed photos.
    """

    new: tuple[str, ...]
    known: tuple[str, ...]
    unseen: tuple[str, ...]
    duplicates: Mapping[str, str] = field(default_factory=dict)
    are_taken: bool = False
    num_unmeasured: int = 0
    copies: tuple[RemainingCopy, ...] = ()


def ids_of(store: str, names: Sequence[str]) -> list[str]:
    """The ids that `remove` would take down for `names` (ids or URLs).

    Raises:
        InputError: as `remove`.
    """
    return list(_sha256_of(store, names))


def remove(store: str, names: Sequence[str], *, reason: str = "", at: datetime.datetime | None = None) -> RemoveReport:
    """Take photos down.

    Args:
        names: ids (`flickr:123`), or the URL of a photo's page or file as in the store.
        reason: recorded with the tombstone.
        at: time recorded with the tombstone; None: now.

    Raises:
        InputError: a name is neither an id nor a URL in the store; nothing is taken down.
        StoreError: the store can't be written.
    """
    sha256_of = _sha256_of(store, names)
    ids = list(sha256_of)
    before = tombstones.removed_ids(store)
    tombstones.add(store, sha256_of, reason, at or datetime.datetime.now(datetime.UTC))
    return RemoveReport(
        tuple(id for id in ids if id not in before),
        tuple(id for id in ids if id in before),
        tuple(id for id in ids if not sha256_of[id]),
    )


def _sha256_of(store: str, names: Sequence[str]) -> dict[str, str]:
    """Id → sha256 ("" if the store doesn't hold it) of the photos that the names stand for, in their order."""
    wanted = dict.fromkeys(name.strip() for name in names if name.strip())
    if not wanted:
        raise InputError("no id given", hint="give ids such as flickr:53512345678, or --file with one a line")
    sha256_of: dict[str, str] = {}
    ids_of_name: dict[str, list[str]] = {}
    photos = Shards(store, "photos")
    names_array = pa.array(wanted, pa.string())
    for number in photos.numbers():
        rows = photos.read(number, ["id", "url", "page_url", "sha256"])
        matches = pc.or_(pc.is_in(rows["id"], names_array), pc.is_in(rows["url"], names_array))
        for row in rows.filter(pc.or_(matches, pc.is_in(rows["page_url"], names_array))).to_pylist():
            for name in {row["id"], row["url"], row["page_url"]}:
                if name in wanted:
                    ids_of_name.setdefault(name, []).append(row["id"])
                    sha256_of[row["id"]] = row["sha256"]
    for name in wanted.keys() - ids_of_name.keys():
        if "://" in name:
            raise InputError(f"{name}: no photo of this store has that address", hint="give the id: source:source_id")
        if not _ID.fullmatch(name):
            raise InputError(f"{name}: is no id", hint="ids are source:source_id, for instance flickr:53512345678")
        ids_of_name[name] = [name]
        sha256_of[name] = ""
    return {id: sha256_of[id] for name in wanted for id in ids_of_name[name]}


def read_names(path: str) -> list[str]:
    """Read names from a file, one per line; lines that start with `#` are comments.

    Raises:
        InputError: it can't be read.
    """
    try:
        lines = read_text(Path(path)).splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: can't be read ({error})", hint="give a UTF-8 text file, one id a line") from error
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
