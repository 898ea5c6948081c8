"""Pipeline → what a person looks at: the report's page, one photo with its facts."""

from __future__ import annotations

import fsspec
import pyarrow.compute as pc

import lhq.report
import lhq.show
from lhq.errors import InputError, StoreError
from lhq.filter import Judged, Rule, judge
from lhq.pipeline import Pipeline, rules
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
    judged, found = _judged(pipeline)
    row = pc.index(judged.table["id"], id).as_py()
    verdicts = {} if row < 0 else {name: given[row] for name, given in judged.verdicts.items()}
    return lhq.show.find(pipeline.store, id, verdicts, {rule.measure.name: rule.measure for rule in found})


def picture(pipeline: Pipeline, shown: lhq.show.Shown) -> bytes:
    """The photo as JPEG with what was detected on it; see `lhq.show.picture`."""
    return lhq.show.picture(shown, pipeline.filters.get("objects"))


def _judged(pipeline: Pipeline) -> tuple[Judged, list[Rule]]:
    if not Shards(pipeline.store, "photos").numbers():
        raise InputError(f"{pipeline.store}: no photos", hint=f"run `lhq crawl {pipeline.path}` first")
    found = rules(pipeline)
    return judge(pipeline.store, found, unmeasured_allowed=True), found
