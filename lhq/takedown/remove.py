"""Ids or page addresses → tombstones: gone from the next export, never crawled again.

A tombstone hides a photo from every export and keeps its id, and its bytes under any other id, from coming back. The
photo stays in its shard until `lhq.takedown.erase` deletes it.
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
from lhq.takedown.copies import Held
from lhq.text_file import read_text

_ID = re.compile(r"[a-z][a-z0-9_]*:\S+")


@dataclass(frozen=True)
class Removed:
    """What was taken down: `new` ids, `known` ones that were down already, `unseen` ones the store doesn't hold
    (they are kept out too).

    `duplicates` maps near-duplicates of them to what each is a version of, taken down with them or left (`are_taken`);
    `num_unmeasured` photos could not be compared. `copies` are the places that still hold one of them."""

    new: tuple[str, ...]
    known: tuple[str, ...]
    unseen: tuple[str, ...]
    duplicates: Mapping[str, str] = field(default_factory=dict)
    are_taken: bool = False
    num_unmeasured: int = 0
    copies: tuple[Held, ...] = ()


def ids_of(store: str, names: Sequence[str]) -> list[str]:
    """The ids that `names` (ids or addresses) stand for, as `remove` would take them down.

    Raises:
        InputError: as `remove`.
    """
    return list(_sha256_of(store, names))


def remove(store: str, names: Sequence[str], *, reason: str = "", at: datetime.datetime | None = None) -> Removed:
    """Take photos down.

    Args:
        names: ids (`flickr:123`), or the address of a photo's page or file as the store has it.
        reason: recorded with the tombstone.
        at: recorded too; None: now.

    Raises:
        InputError: a name is neither; nothing is taken down then.
        StoreError: the store can't be written.
    """
    sha256_of = _sha256_of(store, names)
    ids = list(sha256_of)
    before = tombstones.removed_ids(store)
    tombstones.add(store, sha256_of, reason, at or datetime.datetime.now(datetime.UTC))
    return Removed(
        tuple(id for id in ids if id not in before),
        tuple(id for id in ids if id in before),
        tuple(id for id in ids if not sha256_of[id]),
    )


def _sha256_of(store: str, names: Sequence[str]) -> dict[str, str]:
    """id → sha256 ("" where the store doesn't hold it) of what the names stand for, in their order."""
    wanted = dict.fromkeys(name.strip() for name in names if name.strip())
    if not wanted:
        raise InputError("no id given", hint="give ids such as flickr:53512345678, or --file with one a line")
    sha256_of: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    photos = Shards(store, "photos")
    sought = pa.array(wanted, pa.string())
    for number in photos.numbers():
        rows = photos.read(number, ["id", "url", "page_url", "sha256"])
        is_sought = pc.or_(pc.is_in(rows["id"], sought), pc.is_in(rows["url"], sought))
        for row in rows.filter(pc.or_(is_sought, pc.is_in(rows["page_url"], sought))).to_pylist():
            for name in {row["id"], row["url"], row["page_url"]}:
                if name in wanted:
                    found.setdefault(name, []).append(row["id"])
                    sha256_of[row["id"]] = row["sha256"]
    for name in wanted.keys() - found.keys():
        if "://" in name:
            raise InputError(f"{name}: no photo of this store has that address", hint="give the id: source:source_id")
        if not _ID.fullmatch(name):
            raise InputError(f"{name}: is no id", hint="ids are source:source_id, for instance flickr:53512345678")
        found[name] = [name]
        sha256_of[name] = ""
    return {id: sha256_of[id] for name in wanted for id in found[name]}


def read_names(path: str) -> list[str]:
    """Names from a file: one per line, `#` starts a comment line.

    Raises:
        InputError: it can't be read.
    """
    try:
        lines = read_text(Path(path)).splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: can't be read ({error})", hint="give a UTF-8 text file, one id a line") from error
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
