"""`lhq crawl`: queries → candidates → photos."""

from __future__ import annotations

import gc
import logging
import sys

import click

from lhq import pipeline
from lhq.cli.progress import progress
from lhq.cli.talk import is_quiet, result, say


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Send nothing; print the plan: calls, hours, bytes, disk.")
@click.option("--want", type=click.IntRange(min=1), help="How many photos to keep in total; overrides the file.")
@click.option(
    "--retry-failed",
    "retry",
    multiple=True,
    metavar="REASON",
    help="Try failed photos again: a reason that lhq status shows, or all. May be repeated.",
)
def command(pipeline_file: str, dry_run: bool, want: int | None, retry: tuple[str, ...]) -> int:
    """Search the sources and fetch photos until the store holds as many as wanted.

    After any stop, run the same command again: it resumes, and fetches nothing twice. Ctrl-C stops cleanly, a second
    one at once. Keys are read from UNSPLASH_ACCESS_KEY, FLICKR_API_KEY and FLICKR_API_SECRET.

    \b
    Example:
      lhq crawl pipelines/quickstart.toml
      lhq crawl pipelines/lhq-90k.toml --dry-run
      lhq crawl pipelines/lhq-90k.toml --retry-failed timeout --retry-failed http-403
    """
    loaded = pipeline.load(pipeline_file)
    if dry_run:
        plan, free_bytes, obstacles = loaded.plan(want=want), loaded.free_bytes(), loaded.obstacles()
        told = {**plan.as_json(), "free_bytes": free_bytes, "obstacles": [str(error) for error in obstacles]}
        result(told, plan.text(free_bytes))
        for error in obstacles:
            say(f"lhq: {error}")
        return obstacles[0].exit_code if obstacles else 0
    # Which hosts are resting; on a terminal the bar shows it.
    is_shown = sys.stderr.isatty() or is_quiet()
    logging.getLogger("lhq.crawl.hosts").setLevel(logging.WARNING if is_shown else logging.NOTSET)
    gc.freeze()  # what was imported stays to the end: no collection needs to walk through it
    with progress() as on_progress:
        done = loaded.crawl(retry=retry, want=want, on_progress=on_progress)
    for line in done.lines():
        say(line)
    result(done.as_json())
    return done.exit_code
