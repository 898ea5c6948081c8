"""`lhq list`: candidates, one per line."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lhq import pipeline
from lhq.cli.talk import wants_json
from lhq.http import clean


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--status", "statuses", multiple=True, type=click.Choice(["waiting", "kept", "failed"]))
@click.option("--reason", "reasons", multiple=True, help="Only candidates with this reason.")
@click.option("--source", "sources", multiple=True, help="Only candidates of this source.")
def command(pipeline_file: str, statuses: tuple[str, ...], reasons: tuple[str, ...], sources: tuple[str, ...]) -> None:
    """List candidates: id, status, reason of the last failure, attempts; separated by tabs.

    With --json, one JSON object per line.

    \b
    Example:
      lhq list pipelines/quickstart.toml --status failed
      lhq list pipelines/quickstart.toml --reason timeout --json
    """
    for each in pipeline.load(pipeline_file).candidates(statuses=statuses, reasons=reasons, sources=sources):
        if wants_json():
            click.echo(json.dumps(asdict(each)))
        else:
            click.echo(f"{clean(each.id, limit=1000)}\t{each.status}\t{clean(each.reason)}\t{each.attempts}")
