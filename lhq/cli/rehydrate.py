"""`lhq rehydrate`: a set from its manifest."""

from __future__ import annotations

import dataclasses

import click

from lhq.cli.progress import progress
from lhq.cli.talk import result, say
from lhq.pipeline import load


@click.command()
@click.argument("manifest", type=click.Path())
@click.argument("pipeline", type=click.Path())
@click.option("--take-changed", is_flag=True, help="Keep pictures whose bytes no longer match the manifest.")
def command(manifest: str, pipeline: str, take_changed: bool) -> None:
    """Fetch a manifest's photos into the pipeline's store, ready for `lhq export`.

    MANIFEST is a manifest.parquet or the folder of a dataset. Photos that are gone or have changed are reported one
    per line: id, tab, reason.

    \b
    Example:
      lhq rehydrate lhq-90k/manifest.parquet pipelines/rebuilt.toml
    """
    with progress() as on_progress:
        report = load(pipeline).rehydrate(manifest, takes_changed=take_changed, on_progress=on_progress)
    result(dataclasses.asdict(report), *(f"{id}\t{reason}" for id, reason in report.lost.items()))
    for source, outcomes in report.by_source.items():
        say(f"{source}: " + " · ".join(f"{outcome} {count:,}" for outcome, count in outcomes.items()))
    counts = [f"rows {report.num_rows:,}", f"new {report.new:,}", f"held before {report.held:,}"]
    counts += [f"taken down {report.removed:,}" for _ in [0] if report.removed]
    say(" · ".join([*counts, f"lost {len(report.lost):,}"]))
