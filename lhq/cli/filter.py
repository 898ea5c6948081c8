"""`lhq filter`: photos → facts → verdicts."""

from __future__ import annotations

import click

from lhq import pipeline
from lhq.cli.engine import engine_options
from lhq.cli.progress import progress
from lhq.cli.talk import result


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--judge-only", is_flag=True, help="Measure nothing: judge the existing facts by the file's limits.")
@click.option("--workers", default=0, help="Processes for CPU measures; 0: one per core.", show_default=True)
@engine_options
def command(pipeline_file: str, judge_only: bool, workers: int, engine: str, address: str) -> int:
    """Measure what has no facts yet, judge everything, and write verdicts.parquet.

    Each photo is measured once; after you change a threshold in the pipeline file, only the judging is repeated.

    \b
    Example:
      lhq filter pipelines/quickstart.toml
      lhq filter pipelines/quickstart.toml --judge-only
      lhq filter pipelines/lhq-90k.toml --engine ray --address 10.0.0.1:6379
    """
    with progress() as on_progress:
        done = pipeline.load(pipeline_file).filter(
            judge_only=judge_only, workers=workers, engine=engine, address=address, on_progress=on_progress
        )
    for report in done.failed:
        click.echo(f"shard {report.key}: {report.error}", err=True)
    for note in done.notes:
        click.echo(note, err=True)
    if any(": damaged: " in note for note in done.notes):
        click.echo(f"`lhq crawl {pipeline_file} --retry-failed damaged` fetches such photos again", err=True)
    for place in done.quarantined:
        click.echo(f"moved to {place}; `lhq crawl {pipeline_file} --retry-failed damaged` fetches it again", err=True)
    counts: dict[str, object] = {"photos": done.num_photos, "kept": done.num_kept, "dropped": dict(done.dropped)}
    counts["failed_shards"] = [report.key for report in done.failed]
    if done.notes:
        counts["notes"] = list(done.notes)
    result(counts, done.funnel)
    return 1 if done.failed or any(": damaged: " in note for note in done.notes) else 0
