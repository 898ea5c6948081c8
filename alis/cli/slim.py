"""`alis slim`: a small copy of a model, to share."""

from __future__ import annotations

import click

from lhq.cli.talk import result, say


@click.command()
@click.argument("model", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--weights", type=click.Choice(["float16", "float32"]), default="float16", show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing model.")
def command(model: str, out: str, weights: str, force: bool) -> None:
    """Write a small copy of a model, for painting only: the averaged generator and its clusters.

    Written to alis/demo in a source checkout, it becomes the model that MODEL = demo means.

    \b
    Example:
      alis slim runs/first models/first
      alis serve models/first
    """
    from alis.models.slim import slim

    made = slim(model, out, weights=weights, overwrite=force)
    result({"folder": str(made.folder), "size_bytes": made.size_bytes, "rounding": made.rounding}, str(made.folder))
    say(f"{made.size_bytes / 1e6:.1f} MB · weights rounded by at most {made.rounding:.1e} of the largest")
