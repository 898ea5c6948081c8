"""`alis import-published`: open a published checkpoint safely, once, as a model folder."""

from __future__ import annotations

import click

from lhq.cli.talk import result, say


@click.command()
@click.argument("snapshot", type=click.Path(dir_okay=False))
@click.argument("out", type=click.Path(file_okay=False))
def command(snapshot: str, out: str) -> None:
    """Turn a published checkpoint (.pkl) into a model folder, running nothing of it.

    A pickle can run any program when it is opened in the usual way. Here it is only read: what asks for anything
    else than weights and settings is refused by name.

    \b
    Example:
      alis import-published lhq1024-snapshot.pkl models/lhq1024
      alis panorama models/lhq1024 -o strip.png
    """
    from alis.import_published import convert

    config = convert(snapshot, out)
    say(f"{config.resolution}×{config.resolution}, {config.num_half_res} resolutions of float16")
    result({"folder": out, "resolution": config.resolution, "num_half_res": config.num_half_res}, out)
