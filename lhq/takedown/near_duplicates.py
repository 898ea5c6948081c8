"""Photos taken down → their near-duplicates in the store, which would otherwise be published next.

The facts of `duplicates` say which photos are versions of one scene. A filter keeps the best and drops the others; if
only the best is taken down, the next filter keeps the second best.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.store.shards import Shards

# How the measure's verdict names the photo's original.
_KEEPER = re.compile(r"(?:same bytes as|likeness \S+ to) (.+)")


@dataclass(frozen=True)
class NearDuplicates:
    """`of` maps the id of every version found to what it is a version of, in words ("likeness 0.981 to flickr:1").

    `num_unmeasured` photos of the store have no facts: versions among them are unknown.
    """

    of: dict[str, str]
    num_unmeasured: int


def near_duplicates(store: str, ids: Collection[str], settings: DuplicatesSettings) -> NearDuplicates:
    """The other versions of these photos, by the facts that were measured.

    Raises:
        ShardDamaged: facts or photos of a shard can't be read.
    """
    photos, rooms = Shards(store, "photos"), Shards(store, "facts/duplicates")
    measured = set(rooms.numbers())
    parts, num_unmeasured = [], 0
    for number in photos.numbers():
        if number in measured:
            parts.append(rooms.read(number, list(Duplicates.judged)))
        else:
            num_unmeasured += len(photos.read(number, ["id"]))
    if not parts:
        return NearDuplicates({}, num_unmeasured)
    facts = pa.concat_tables(parts)
    wanted = pc.is_in(facts["id"], pa.array(sorted(ids), pa.string())).to_numpy()
    if not wanted.any():
        return NearDuplicates({}, num_unmeasured)
    # Ranked first, a removed photo becomes the keeper of its cluster, and its versions are the ones dropped.
    verdicts = Duplicates(settings).judge_among(facts, settings, wanted)
    gone, found = set(ids), {}
    names = facts["id"].to_pylist()
    for row in np.flatnonzero(~verdicts.kept).tolist():
        said = _KEEPER.fullmatch(verdicts.detail(row))
        if said and said[1] in gone and names[row] not in gone:
            found[names[row]] = said[0]
    return NearDuplicates(found, num_unmeasured)
