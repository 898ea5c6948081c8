"""`alis info`: what a model is made of and what a frame costs."""

from __future__ import annotations

import click

from lhq.cli.talk import wants_json


@click.command()
@click.argument("model", type=click.Path())
def command(model: str) -> None:
    """Layers, shapes, parameters, FLOPs a frame and memory of a model folder or run.

    \b
    Example:
      alis info models/lhq1024
      alis info models/lhq1024 --json | jq .generator.flops
    """
    from alis.models import info

    told = info.of(model)
    click.echo(told.as_json() if wants_json() else told.as_text())
