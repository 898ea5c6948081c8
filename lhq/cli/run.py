"""`lhq run`: all stages, from queries to a dataset."""

from __future__ import annotations

from collections.abc import Mapping

import click

from lhq import pipeline
from lhq.cli import crawl, export, filter
from lhq.cli.extras import extra_for, is_installed
from lhq.cli.talk import gathered, result, say, wants_json
from lhq.errors import ConfigError


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--want", type=click.IntRange(min=1), help="How many photos to keep in total; overrides the file.")
@click.pass_context
def command(ctx: click.Context, pipeline_file: str, want: int | None) -> int:
    """Crawl, filter and export, one after the other.

    After any stop, run the same command again to resume. With --json, one object with the results of the three stages.

    \b
    Example:
      lhq run pipelines/quickstart.toml
      lhq run pipelines/quickstart.toml --want 500
    """
    _need_what_measures_need(pipeline_file)
    code = 0
    done: dict[str, Mapping[str, object]] = {}
    for name, stage in (("crawl", crawl.command), ("filter", filter.command), ("export", export.command)):
        say(f"{name}: lhq {name} {pipeline_file}")
        assert stage.params[0].name is not None
        wanted = {"want": want} if stage is crawl.command else {}
        with gathered() as told:
            code = int(ctx.invoke(stage, **{stage.params[0].name: pipeline_file}, **wanted) or 0)
        done.update((name, one) for one in told)
        if code:
            break
    if wants_json():
        result(done)
    return code


def _need_what_measures_need(pipeline_file: str) -> None:
    """Check before a long crawl, not after it, that the filter has what it needs.

    A store that already holds photos may have been measured elsewhere, so it is not refused.

    Raises:
        ConfigError: a measure imports what is not installed.
    """
    loaded = pipeline.load(pipeline_file)
    for rule in loaded.rules():
        lacking = [module for module in rule.measure.needs if not is_installed(module)]
        if lacking and loaded.file.sources and not loaded.plan().num_kept:
            extra = extra_for(lacking[0])
            way = f"pip install 'lhq[{extra}]'" if extra else "install it"
            raise ConfigError(
                f"{pipeline_file} [filter.{rule.name}]: needs {', '.join(lacking)} (not installed)",
                hint=f"{way}, or run a file without that table (`lhq init` writes one)",
            )
