"""`lhq remove`: take photos down."""

from __future__ import annotations

import dataclasses
import json

import click

from lhq.cli.progress import progress
from lhq.cli.talk import say
from lhq.pipeline import load
from lhq.takedown import remove


@click.command()
@click.argument("pipeline", type=click.Path())
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--file", "path", type=click.Path(), help="A text file, one id or address a line.")
@click.option("--reason", default="", help="Recorded with the ids.")
@click.option("--erase", is_flag=True, help="Delete the bytes too, of all photos taken down so far.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as JSON on stdout.")
def command(pipeline: str, names: tuple[str, ...], path: str | None, reason: str, erase: bool, as_json: bool) -> None:
    """Take photos down: they are gone from the next export and never crawled again.

    An ID is source:source_id; the address of a photo's page will do as well. Without --erase the store keeps their
    bytes, hidden; with it they are deleted from its shards, and no ID need be given.

    \b
    Example:
      lhq remove pipelines/lhq-90k.toml flickr:53512345678 --reason "asked by the author"
      lhq remove pipelines/lhq-90k.toml --file takedown.txt --erase
    """
    given = [*names, *(remove.read_names(path) if path else [])]
    loaded, done, gone = load(pipeline), remove.Removed((), (), ()), None
    if given or not erase:
        done = loaded.remove(given, reason=reason)
    if erase:
        with progress() as on_progress:
            gone = loaded.erase(on_progress=on_progress)
    for id in done.unseen:
        say(f"{id}: not in the store; kept out all the same")
    for id in done.known:
        say(f"{id}: was taken down before")
    if given or not erase:
        say(f"taken down: {len(done.new):,}; lhq export {pipeline} publishes the set without them")
    if gone:
        say(
            f"erased: {len(gone.ids):,} from {len(gone.shards):,} shards; an earlier export keeps its copies until the "
            f"next lhq export {pipeline}"
        )
        for id in gone.waiting:
            say(f"{id}: lies in an open shard; run lhq crawl {pipeline}, which seals it, then erase again")
        for place in gone.quarantined:
            say(f"{place}: could not be read and may hold any of them; delete it")
    if as_json:
        told_ = {"new": done.new, "known": done.known, "unseen": done.unseen}
        click.echo(json.dumps(told_ | ({"erased": dataclasses.asdict(gone)} if gone else {})))
    else:
        for id in done.new:
            click.echo(id)
