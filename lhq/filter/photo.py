"""One photo → its verdicts, without judging all other photos if possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from lhq.errors import ShardDamaged
from lhq.filter.judge import judge_photos
from lhq.filter.rule import Rule, is_measured, judged_by
from lhq.measures import Verdicts
from lhq.records import Verdict
from lhq.store import verdicts
from lhq.store.shards import Shards


def judge_photo(store: str, rules: Sequence[Rule], id: str, shard: int, row: int) -> dict[str, Verdict]:
    """The verdict of each rule, by measure, on the photo in this row of this shard.

    Most measures need the photo's own facts only; a threshold that is a share of all photos needs all facts of its
    measure. Which photo of a cluster of duplicates is kept comes from the last filter run if its settings were the
    same; otherwise all photos are judged again.
    """
    said: dict[str, Verdict] = {}
    last, anew = _last_run(store, rules, id, shard, row), None
    for rule in rules:
        name = rule.name
        if not is_measured(store, rule, shard):
            said[name] = Verdict(id, name, False, math.nan, "not measured")
        elif rule.measure.judges == "alone":
            facts = rule.facts(store).read(shard).slice(row, 1)
            said[name] = Verdicts.of(name, rule.measure.judge(facts, rule.settings))[0]
        elif rule.measure.judges == "by-share":
            one = judge_photos(store, [rule], unmeasured_allowed=True)
            said[name] = one.verdicts[name][pc.index(one.table["id"], id).as_py()]
        elif last is not None and name not in last["failed"]:
            said[name] = Verdict(id, name, True, math.nan, "")
        elif last is not None and name == last["reason"]:
            said[name] = Verdict(id, name, False, last["score"], last["detail"])
        else:
            anew = anew or judge_photos(store, rules, unmeasured_allowed=True)
            said[name] = anew.verdicts[name][pc.index(anew.table["id"], id).as_py()]
    return said


def _last_run(store: str, rules: Sequence[Rule], id: str, shard: int, row: int) -> dict[str, Any] | None:
    """The photo's row of `verdicts.parquet`; None if that is of other settings or other photos, or incomplete."""
    try:
        table = verdicts.read(store)
    except ShardDamaged:
        return None
    if table is None or verdicts.judged_by(table) != judged_by(rules):
        return None
    shards = table["shard"].to_numpy()
    at = int(np.searchsorted(shards, shard)) + row
    if np.unique(shards).tolist() != Shards(store, "photos").numbers() or at >= len(shards):
        return None
    last: dict[str, Any] = table.slice(at, 1).to_pylist()[0]
    return last if last["id"] == id and last["detail"] != "not measured" else None
