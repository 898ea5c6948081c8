"""`alis info`: a model's layers, and what painting a frame costs."""

from __future__ import annotations

import click

from lhq.cli.talk import wants_json


@click.command()
@click.argument("model", type=click.Path())
def command(model: str) -> None:
    """Show a model's layers, shapes, parameters, FLOPs per frame and memory.

    \b
    Example:
      alis info models/lhq1024
      alis info models/lhq1024 --json | jq .generator.flops
    """
    from alis.models import info

    report = info.report(model)
    click.echo(report.as_json() if wants_json() else report.as_text())
