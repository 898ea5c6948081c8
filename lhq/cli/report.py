"""`lhq report`: verdicts → one self-contained page."""

from __future__ import annotations

import dataclasses

import click

from lhq import pipeline
from lhq.cli.talk import result, say


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option(
    "-o", "--output", default="report.html", show_default=True, type=click.Path(dir_okay=False), help="The page."
)
def command(pipeline_file: str, output: str) -> None:
    """Show what the filter does, as one page that opens from disk.

    Funnel, histograms of scores with their limits, the photos around each limit, detections, duplicates side by side,
    shares by source, licence and query. Facts are judged by the file's current limits; nothing is measured and
    verdicts.parquet is not changed.

    \b
    Example:
      lhq report pipelines/quickstart.toml -o report.html
    """
    report = pipeline.load(pipeline_file).report(output)
    say(f"{report.path}: {report.num_kept:,} of {report.num_photos:,} photos kept, {report.size_bytes / 1e6:.1f} MB")
    result(dataclasses.asdict(report))
