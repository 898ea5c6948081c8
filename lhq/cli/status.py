"""`lhq status`: how far a store is."""

from __future__ import annotations

import json

import click

from lhq import pipeline


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--queries", is_flag=True, help="Show every query, not the totals alone.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(pipeline_file: str, queries: bool, as_json: bool) -> None:
    """Show the funnel: candidates, waiting, failed by reason, kept by licence, and the filter's verdicts.

    The sums are exact, and it can be asked while a crawl is at work.

    \b
    Example:
      lhq status pipelines/quickstart.toml
      lhq status pipelines/quickstart.toml --json
    """
    found = pipeline.load(pipeline_file).status()
    click.echo(json.dumps(found.as_json(), indent=1) if as_json else found.table(with_queries=queries))
