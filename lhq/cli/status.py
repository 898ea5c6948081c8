"""`lhq status`: how far a crawl has come."""

from __future__ import annotations

import click

from lhq import pipeline
from lhq.cli.talk import result


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--queries", is_flag=True, help="Show every query, not the totals alone.")
def command(pipeline_file: str, queries: bool) -> None:
    """Show the funnel: candidates, waiting, failed by reason, kept by licence, and the filter's verdicts.

    The sums are exact, also while a crawl is running.

    \b
    Example:
      lhq status pipelines/quickstart.toml
      lhq status pipelines/quickstart.toml --json
    """
    found = pipeline.load(pipeline_file).status()
    result(found.as_json(), found.table(with_queries=queries))
