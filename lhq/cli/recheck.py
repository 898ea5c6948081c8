"""`lhq recheck`: what changed since the photos were fetched."""

from __future__ import annotations

import dataclasses

import click

from lhq.cli.progress import progress
from lhq.cli.talk import result, say
from lhq.pipeline import load


@click.command()
@click.argument("pipeline", type=click.Path())
@click.option("--bytes", "reads_bytes", is_flag=True, help="Fetch every photo and compare its sha256.")
@click.option("--limit", type=click.IntRange(1), help="Check so many photos, those asked longest ago first.")
def command(pipeline: str, reads_bytes: bool, limit: int | None) -> None:
    """Ask the photos' hosts and sources: is each photo still there and unchanged, and is its licence the same?

    Prints one change per line: id, tab, what (gone, licence, bytes, opt-out), tab, detail. What hosts say about use is
    recorded: the next export leaves out what they now reserve.

    \b
    Example:
      lhq recheck pipelines/lhq-90k.toml --limit 3000
      lhq recheck pipelines/lhq-90k.toml | cut -f1 | sort -u > gone.txt
      lhq remove pipelines/lhq-90k.toml --file gone.txt --reason "changed at the source"
    """
    with progress() as on_progress:
        report = load(pipeline).recheck(reads_bytes=reads_bytes, limit=limit, on_progress=on_progress)
    changes = (f"{change.id}\t{change.what}\t{change.detail}" for change in report.changes)
    result(dataclasses.asdict(report), *changes)
    for id, reason in report.unknown.items():
        say(f"could not ask: {id}: {reason}")
    say(
        f"checked {report.checked:,} · changed {len({one.id for one in report.changes}):,} · "
        f"could not ask {len(report.unknown):,} · answers about use recorded {report.recorded:,}"
    )
