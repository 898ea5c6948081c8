"""`alis info`: what a model is made of and what a frame costs."""

from __future__ import annotations

import click


@click.command()
@click.argument("model", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(model: str, as_json: bool) -> None:
    """Layers, shapes, parameters, FLOPs a frame and memory of a model folder or run.

    \b
    Example:
      alis info models/lhq1024
      alis info models/lhq1024 --json | jq .generator.flops
    """
    from alis.models import info

    told = info.of(model)
    click.echo(told.as_json() if as_json else told.as_text())
