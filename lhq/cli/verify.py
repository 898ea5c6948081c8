"""`lhq verify`: check a dataset folder"""

from __future__ import annotations

import dataclasses

import click

from lhq import pipeline
from lhq.cli.engine import engine_options
from lhq.cli.progress import progress
from lhq.cli.talk import result, say


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@engine_options
def command(folder: str, engine: str, address: str) -> int:
    """Check a dataset that `lhq export` wrote: schema, counts, card, every sha256, every picture.

    Prints one line per problem; exit code 1 if there is any.

    \b
    Example:
      lhq verify data/quickstart/export
    """
    with progress() as on_progress:
        report = pipeline.verify(folder, engine=engine or "local", address=address, on_progress=on_progress)
    result(dataclasses.asdict(report), *report.problems)
    say(
        f"rows {report.num_rows:,} · files {report.num_files:,} · pictures {report.num_pictures:,} · "
        f"problems {len(report.problems):,}"
    )
    return 1 if report.problems else 0
