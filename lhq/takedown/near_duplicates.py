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

# The detail of a duplicate's verdict, which names the photo that is kept.
_KEEPER = re.compile(r"(?:same bytes as|likeness \S+ to) (.+)")


@dataclass(frozen=True)
class NearDuplicates:
    """`of` maps the id of every near-duplicate to what it is a version of ("likeness 0.981 to flickr:1").

    `num_unmeasured` photos of the store have no facts, so they could not be compared.
    """

    of: dict[str, str]
    num_unmeasured: int


def near_duplicates(store: str, ids: Collection[str], settings: DuplicatesSettings) -> NearDuplicates:
    """Find the near-duplicates of these photos by the facts of the measure `duplicates`.

    Raises:
        ShardDamaged: facts or photos of a shard can't be read.
    """
    photos, facts_shards = Shards(store, "photos"), Shards(store, "facts/duplicates")
    measured = set(facts_shards.numbers())
    parts, num_unmeasured = [], 0
    for number in photos.numbers():
        if number in measured:
            parts.append(facts_shards.read(number, list(Duplicates.judged)))
        else:
            num_unmeasured += len(photos.read(number, ["id"]))
    if not parts:
        return NearDuplicates({}, num_unmeasured)
    facts = pa.concat_tables(parts)
    wanted = pc.is_in(facts["id"], pa.array(sorted(ids), pa.string())).to_numpy()
    if not wanted.any():
        return NearDuplicates({}, num_unmeasured)
    # Ranked first, each removed photo is the one its cluster keeps, and its near-duplicates are dropped.
    verdicts = Duplicates(settings).judge_among(facts, settings, wanted)
    removed, versions = set(ids), {}
    ids_of_rows = facts["id"].to_pylist()
    for row in np.flatnonzero(~verdicts.kept).tolist():
        match = _KEEPER.fullmatch(verdicts.detail(row))
        if match and match[1] in removed and ids_of_rows[row] not in removed:
            versions[ids_of_rows[row]] = match[0]
    return NearDuplicates(versions, num_unmeasured)
