"""`lhq remove`: take photos down."""

from __future__ import annotations

import json

import click

from lhq import takedown
from lhq.cli.talk import say
from lhq.pipeline import load


@click.command()
@click.argument("pipeline", type=click.Path())
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--file", "path", type=click.Path(), help="A text file, one id or address a line.")
@click.option("--reason", default="", help="Recorded with the ids.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as JSON on stdout.")
def command(pipeline: str, names: tuple[str, ...], path: str | None, reason: str, as_json: bool) -> None:
    """Take photos down: they are gone from the next export and never crawled again.

    An ID is source:source_id; the address of a photo's page will do as well.

    \b
    Example:
      lhq remove pipelines/lhq-90k.toml flickr:53512345678 --reason "asked by the author"
      lhq remove pipelines/lhq-90k.toml --file takedown.txt
    """
    given = [*names, *(takedown.read_names(path) if path else [])]
    done = takedown.remove(load(pipeline).store, given, reason=reason)
    for id in done.unseen:
        say(f"{id}: not in the store; kept out all the same")
    for id in done.known:
        say(f"{id}: was taken down before")
    say(f"taken down: {len(done.new):,}; lhq export {pipeline} publishes the set without them")
    if as_json:
        click.echo(json.dumps({"new": done.new, "known": done.known, "unseen": done.unseen}))
    else:
        for id in done.new:
            click.echo(id)
