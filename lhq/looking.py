"""Pipeline → what a person looks at: the report's page, one photo with its facts."""

from __future__ import annotations

import math
import posixpath
from dataclasses import replace
from typing import Any

import fsspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

import lhq.report
import lhq.show
from lhq.errors import InputError, StoreError
from lhq.filter import JUDGED, Judged, Rule, is_measured, judge, judged_by
from lhq.measures import JudgesAmong, Verdicts
from lhq.pipeline import Pipeline, rules
from lhq.records import Verdict
from lhq.shards import Shards, write_whole


def report(pipeline: Pipeline, output: str) -> int:
    """Write the page that shows what the filter does; its size in bytes. See `lhq.report.render`.

    Raises:
        InputError: there are no photos, or the page can't be written.
    """
    judged, found = _judged(pipeline)
    settings = {rule.measure.name: rule.settings for rule in found}
    page = lhq.report.render(pipeline.store, pipeline.path.stem, judged.table, judged.verdicts, settings)
    data = page.encode()
    fs, path = fsspec.core.url_to_fs(output)
    try:
        write_whole(fs, path, lambda sink: sink.write(data))
    except StoreError as error:
        raise InputError(error.message, hint="give another place with -o") from None
    return len(data)


def show(pipeline: Pipeline, id: str) -> lhq.show.Shown:
    """One photo with all its facts, judged by the file's present limits; see `lhq.show.find`.

    Raises:
        InputError: the store holds no such photo.
    """
    found = rules(pipeline)
    shown = lhq.show.find(pipeline.store, id, {rule.measure.name: rule.measure for rule in found})
    return replace(shown, verdicts=_verdicts(pipeline.store, found, shown))


def _verdicts(store: str, found: list[Rule], shown: lhq.show.Shown) -> dict[str, Verdict]:
    """What each rule says of one photo. Most look at its own facts only; a share of all is drawn over one measure's
    facts; the best of a cluster is the last run's where it judged by the same settings, else all is judged anew."""
    verdicts: dict[str, Verdict] = {}
    id = shown.papers["id"]
    last, anew = _last_run(store, found, shown), None
    for rule in found:
        name = rule.measure.name
        if not is_measured(store, rule, shown.shard):
            verdicts[name] = Verdict(id, name, False, math.nan, "not measured")
        elif not isinstance(rule.measure, JudgesAmong) and not getattr(rule.measure, "judges_by_share", False):
            facts = Shards(store, f"facts/{name}").read(shown.shard).slice(shown.row, 1)
            verdicts[name] = Verdicts.of(name, rule.measure.judge(facts, rule.settings))[0]
        elif not isinstance(rule.measure, JudgesAmong):
            one = judge(store, [rule], unmeasured_allowed=True)
            verdicts[name] = one.verdicts[name][pc.index(one.table["id"], id).as_py()]
        elif last is not None and name not in last["failed"]:
            verdicts[name] = Verdict(id, name, True, math.nan, "")
        elif last is not None and name == last["reason"]:
            verdicts[name] = Verdict(id, name, False, last["score"], last["detail"])
        else:
            anew = anew or judge(store, found, unmeasured_allowed=True)
            verdicts[name] = anew.verdicts[name][pc.index(anew.table["id"], id).as_py()]
    return verdicts


def _last_run(store: str, found: list[Rule], shown: lhq.show.Shown) -> dict[str, Any] | None:
    """The photo's row of `verdicts.parquet`; None where other photos or other settings were judged, or not all."""
    photos = Shards(store, "photos")
    path = posixpath.join(posixpath.dirname(photos.root), "verdicts.parquet")
    if not photos.fs.exists(path):
        return None
    with photos.fs.open(path, "rb") as file:
        verdicts = pq.ParquetFile(file)
        if (verdicts.schema_arrow.metadata or {}).get(JUDGED, b"").decode() != judged_by(found):
            return None
        shard = verdicts.read(["shard"])["shard"].to_numpy()
        row = int(np.searchsorted(shard, shown.shard)) + shown.row
        if np.unique(shard).tolist() != photos.numbers() or row >= len(shard):
            return None
        last: dict[str, Any] = verdicts.read(["id", "reason", "score", "detail", "failed"]).slice(row, 1).to_pylist()[0]
    return last if last["id"] == shown.papers["id"] and last["detail"] != "not measured" else None


def picture(pipeline: Pipeline, shown: lhq.show.Shown) -> bytes:
    """The photo as JPEG with what was detected on it; see `lhq.show.picture`."""
    return lhq.show.picture(shown, pipeline.filters.get("objects"))


def _judged(pipeline: Pipeline) -> tuple[Judged, list[Rule]]:
    if not Shards(pipeline.store, "photos").numbers():
        raise InputError(f"{pipeline.store}: no photos", hint=f"run `lhq crawl {pipeline.path}` first")
    found = rules(pipeline)
    return judge(pipeline.store, found, unmeasured_allowed=True), found
