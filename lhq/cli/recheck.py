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
@click.option("--limit", type=click.IntRange(1), help="Check this many photos, those checked longest ago first.")
def command(pipeline: str, reads_bytes: bool, limit: int | None) -> None:
    """Check at the photos' hosts and sources what has changed: photos, licences, opt-outs.

    Prints one change per line: id, tab, kind (gone, licence, bytes, opt-out), tab, detail. Opt-outs are recorded: the
    next export leaves out photos that are now reserved.

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
