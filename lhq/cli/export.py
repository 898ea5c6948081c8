"""`lhq export`: kept photos → a dataset's folder."""

from __future__ import annotations

import dataclasses
from typing import Literal

import click

from lhq.cli.engine import engine_options
from lhq.cli.progress import progress
from lhq.cli.talk import result, say
from lhq.export import ExportReport
from lhq.pipeline import load
from lhq.pipeline.publishing import Push


@click.command()
@click.argument("pipeline", type=click.Path())
@click.option("--to", help="Folder of the dataset; overrides the pipeline file.")
@click.option("--variants", help='Comma list, e.g. "1024,256,full,256-png".')
@click.option(
    "--publish",
    type=click.Choice(["bytes", "manifest", "private"]),
    help="Pictures, ids and URLs, or nothing.",
)
@click.option("--licences", help='Comma-separated subsets and licences, e.g. "commercial-ok" or "cc0-1.0,cc-by-*".')
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "zip", "webdataset"]),
    default="parquet",
    show_default=True,
    help="Archives for other trainers, written next to the dataset.",
)
@click.option("--refill", is_flag=True, help="Keep the earlier export's rows; replace those that are gone.")
@click.option("--push-to-hub", "repository", metavar="ORG/NAME", default="", help="Upload to the Hugging Face Hub.")
@click.option("--public", is_flag=True, help="Make a new repository public instead of private.")
@engine_options
def command(
    pipeline: str,
    to: str | None,
    variants: str | None,
    publish: str | None,
    licences: str | None,
    kind: Literal["parquet", "zip", "webdataset"],
    refill: bool,
    repository: str,
    public: bool,
    engine: str,
    address: str,
) -> int:
    """Publish the kept photos as Parquet that `datasets` loads as it is.

    If interrupted, run the same command again: finished work is reused. An earlier export stays intact until the new
    one is complete.

    \b
    Example:
      lhq export pipelines/quickstart.toml
      lhq export pipelines/lhq-90k.toml --to out --variants 1024,256 --licences commercial-ok
      lhq export pipelines/lhq-90k.toml --format webdataset
      lhq export pipelines/lhq-90k.toml --refill
      lhq export pipelines/flickr-cc.toml --publish bytes --push-to-hub my-org/landscapes
    """
    changes = {
        "to": to,
        "variants": variants and tuple(name.strip() for name in variants.split(",")),
        "publish": publish,
        "refill": refill or None,
        "licences": licences and tuple(word.strip() for word in licences.split(",")),
    }
    given = {key: value for key, value in changes.items() if value is not None}
    with progress() as on_progress:
        done = load(pipeline).export(
            given,
            format=kind,
            repository=Push(repository, public),
            engine=engine,
            address=address,
            on_progress=on_progress,
        )
    _tell(done.report)
    places = (done.report.to if done.report.num_rows else "", done.archives, done.address)
    told = {**_plain(done.report), "archives": done.archives, "address": done.address}
    result(told, *(place for place in places if place))
    lost = [id for one in done.report.written for id, reason in one.failed.items() if reason.split(":")[0] in _DAMAGE]
    if lost:
        say(f"{len(lost):,} rows were left out for damage; `lhq filter` names such photos and how to fetch them again")
    return 1 if lost else 0


# Reasons that mean something went wrong; all others follow from the settings.
_DAMAGE = {"damaged", "crashed", "corrupt", "corrupt-header", "truncated", "empty", "not-an-image"}


def _tell(report: ExportReport) -> None:
    for one in report.written:
        rows = " · ".join(f"{split} {count:,}" for split, count in one.rows.items())
        say(
            f"{one.variant.name}: {rows} · rendered {one.pictures_rendered:,} · "
            f"shards written {one.shards_written}, as before {one.shards_reused}"
        )
        for id, reason in sorted(one.failed.items()):
            say(f"  could not be rendered: {id}: {reason}")
    for note in report.notes:
        say(note)
    if report.is_withdrawn:
        say(f"{report.to}: the last photos were taken down; the earlier export is deleted")
    for reason, count in report.skipped.items():
        say(f"left out: {count:,} rows: {reason}")
    dropped = "".join(f" · {reason} {count:,}" for reason, count in report.funnel.items())
    say(f"photos {sum(report.funnel.values()) + report.num_kept:,} · kept {report.num_kept:,}{dropped}")


def _plain(report: ExportReport) -> dict[str, object]:
    """The report in JSON's types; ids of rows are in the manifest, not here."""
    written = []
    for one in report.written:
        written.append({**dataclasses.asdict(one), "variant": one.variant.name})
        del written[-1]["ids"]
    return {**dataclasses.asdict(report), "written": written}
