"""Pipeline → what a person looks at: the report's page, one photo with its facts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import fsspec
import numpy as np
import pyarrow.compute as pc

import lhq.report
import lhq.report.show
from lhq.errors import InputError, ShardDamaged, StoreError
from lhq.filter import Judged, Rule, is_measured, judge, judged_by
from lhq.measures import JudgesAmong, Verdicts
from lhq.pipeline import Pipeline, rules
from lhq.records import Verdict
from lhq.store import verdicts
from lhq.store.shards import Shards, write_whole


def report(pipeline: Pipeline, output: str) -> int:
    """Write the page that shows what the filter does; its size in bytes. See `lhq.report.render`.

    Raises:
        InputError: there are no photos, or the page can't be written.
    """
    judged, found = _judged(pipeline)
    settings = {rule.measure.name: rule.settings for rule in found}
    page = lhq.report.render(pipeline.store, pipeline.path.stem, judged.table, judged.verdicts, settings)
    data = page.encode()
    _write(output, data, "-o")
    return len(data)


def show(pipeline: Pipeline, id: str) -> lhq.report.show.Shown:
    """One photo with all its facts, judged by the file's present limits; see `lhq.report.show.find`.

    Raises:
        InputError: the store holds no such photo.
    """
    found = rules(pipeline)
    shown = lhq.report.show.find(pipeline.store, id, {rule.measure.name: rule.measure for rule in found})
    return replace(shown, verdicts=_verdicts(pipeline.store, found, shown))


def _verdicts(store: str, found: list[Rule], shown: lhq.report.show.Shown) -> dict[str, Verdict]:
    """What each rule says of one photo. Most look at its own facts only; a share of all is drawn over one measure's
    facts; the best of a cluster is the last run's where it judged by the same settings, else all is judged anew."""
    said: dict[str, Verdict] = {}
    id = shown.papers["id"]
    last, anew = _last_run(store, found, shown), None
    for rule in found:
        name = rule.measure.name
        if not is_measured(store, rule, shown.shard):
            said[name] = Verdict(id, name, False, math.nan, "not measured")
        elif not isinstance(rule.measure, JudgesAmong) and not getattr(rule.measure, "judges_by_share", False):
            facts = Shards(store, f"facts/{name}").read(shown.shard).slice(shown.row, 1)
            said[name] = Verdicts.of(name, rule.measure.judge(facts, rule.settings))[0]
        elif not isinstance(rule.measure, JudgesAmong):
            one = judge(store, [rule], unmeasured_allowed=True)
            said[name] = one.verdicts[name][pc.index(one.table["id"], id).as_py()]
        elif last is not None and name not in last["failed"]:
            said[name] = Verdict(id, name, True, math.nan, "")
        elif last is not None and name == last["reason"]:
            said[name] = Verdict(id, name, False, last["score"], last["detail"])
        else:
            anew = anew or judge(store, found, unmeasured_allowed=True)
            said[name] = anew.verdicts[name][pc.index(anew.table["id"], id).as_py()]
    return said


def _last_run(store: str, found: list[Rule], shown: lhq.report.show.Shown) -> dict[str, Any] | None:
    """The photo's row of `verdicts.parquet`; None where other photos or other settings were judged, or not all."""
    try:
        table = verdicts.read(store)
    except ShardDamaged:
        return None
    if table is None or verdicts.judged_by(table) != judged_by(found):
        return None
    shard = table["shard"].to_numpy()
    row = int(np.searchsorted(shard, shown.shard)) + shown.row
    if np.unique(shard).tolist() != Shards(store, "photos").numbers() or row >= len(shard):
        return None
    last: dict[str, Any] = table.slice(row, 1).to_pylist()[0]
    return last if last["id"] == shown.papers["id"] and last["detail"] != "not measured" else None


def picture(pipeline: Pipeline, shown: lhq.report.show.Shown, output: str) -> None:
    """Write the photo as JPEG with what was detected on it; see `lhq.report.show.picture`.

    Raises:
        ImageError: the photo's bytes don't decode.
        InputError: the file can't be written.
    """
    _write(output, lhq.report.show.picture(shown, pipeline.filters.get("objects")), "--image")


def _write(output: str, data: bytes, option: str) -> None:
    fs, path = fsspec.core.url_to_fs(output)
    try:
        write_whole(fs, path, lambda sink: sink.write(data))
    except StoreError as error:
        raise InputError(error.message, hint=f"give another place with {option}") from None


def _judged(pipeline: Pipeline) -> tuple[Judged, list[Rule]]:
    if not Shards(pipeline.store, "photos").numbers():
        raise InputError(f"{pipeline.store}: no photos", hint=f"run `lhq crawl {pipeline.path}` first")
    found = rules(pipeline)
    return judge(pipeline.store, found, unmeasured_allowed=True), found
