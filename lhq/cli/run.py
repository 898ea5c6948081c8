"""`lhq run`: the whole way, from queries to a dataset."""

from __future__ import annotations

import click

from lhq.cli import crawl, export, filter
from lhq.cli.talk import say


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.pass_context
def command(ctx: click.Context, pipeline_file: str) -> int:
    """Crawl, filter and export, one after the other.

    After any stop, the same command goes on where it was.

    \b
    Example:
      lhq run pipelines/quickstart.toml
    """
    for name, stage in (("crawl", crawl.command), ("filter", filter.command), ("export", export.command)):
        say(f"{name}: lhq {name} {pipeline_file}")
        assert stage.params[0].name is not None
        code = ctx.invoke(stage, **{stage.params[0].name: pipeline_file})
        if code:
            return int(code)
    return 0
