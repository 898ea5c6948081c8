"""`alis import-published`: published checkpoint → model folder, safely."""

from __future__ import annotations

import click

from lhq.cli.talk import result, say


@click.command()
@click.argument("snapshot", type=click.Path(dir_okay=False))
@click.argument("out", type=click.Path(file_okay=False))
def command(snapshot: str, out: str) -> None:
    """Convert a published checkpoint (.pkl) to a model folder, without executing anything in it.

    Loading a pickle in the usual way can run any program. This command only reads it: a pickle that asks for anything
    but weights and settings is refused, and the error says what it asked for.

    \b
    Example:
      alis import-published lhq1024-snapshot.pkl models/lhq1024
      alis panorama models/lhq1024 -o strip.png
    """
    from alis.import_published import convert

    config = convert(snapshot, out)
    say(f"{config.resolution}×{config.resolution}, {config.num_half_res} resolutions of float16")
    result({"folder": out, "resolution": config.resolution, "num_half_res": config.num_half_res}, out)
