"""`lhq remove`: take photos down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import click

from lhq.cli.progress import progress
from lhq.cli.talk import result, say
from lhq.pipeline import load
from lhq.takedown import remove
from lhq.takedown.erase import EraseReport


@click.command()
@click.argument("pipeline", type=click.Path())
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--file", "path", type=click.Path(), help="A text file, one id or address per line.")
@click.option("--reason", default="", help="Recorded with the ids.")
@click.option("--erase", is_flag=True, help="Also delete the bytes of all photos taken down so far.")
@click.option(
    "--duplicates",
    type=click.Choice(["take", "ask", "keep"]),
    default="take",
    show_default=True,
    help="What to do with near-duplicates, which would otherwise be published in their place.",
)
def command(pipeline: str, names: tuple[str, ...], path: str | None, reason: str, erase: bool, duplicates: str) -> None:
    """Take photos down: they are gone from the next export and never crawled again.

    An ID is source:source_id, or the address of a photo's page. Without --erase the store keeps the bytes, hidden;
    with it they are deleted from its shards, and no ID is needed. Near-duplicates are removed too, each by name, and
    every known place that still holds a copy is listed with what to do.

    \b
    Example:
      lhq remove pipelines/lhq-90k.toml flickr:53512345678 --reason "asked by the author"
      lhq remove pipelines/lhq-90k.toml --file takedown.txt --erase
    """
    given = [*names, *(remove.read_names(path) if path else [])]
    loaded, done, gone = load(pipeline), remove.RemoveReport((), (), ()), None
    if given or not erase:
        takes = duplicates == "take" or (duplicates == "ask" and _wants(loaded.near_duplicates(given).of))
        done = loaded.remove(given, reason=reason, takes_duplicates=takes)
    if erase:
        with progress() as on_progress:
            gone = loaded.erase(on_progress=on_progress)
    if given or not erase:
        _tell(done, pipeline)
    if gone:
        _tell_erased(gone, pipeline)
    taken = [*done.new, *(done.duplicates if done.are_taken else ())]
    told = {key: value for key, value in dataclasses.asdict(done).items() if key != "are_taken"}
    result(told | ({"erased": dataclasses.asdict(gone)} if gone else {}), *taken)


def _wants(duplicates: Mapping[str, str]) -> bool:
    """Ask on the terminal whether to remove these too."""
    for id, of in duplicates.items():
        say(f"{id}: {of}")
    return bool(duplicates) and click.confirm(f"take these {len(duplicates):,} down too?", default=True, err=True)


def _tell(done: remove.RemoveReport, pipeline: str) -> None:
    for id in done.unseen:
        say(f"{id}: not in the store; kept out all the same")
    for id in done.known:
        say(f"{id}: was taken down before")
    verb = "taken down with them" if done.are_taken else "left, and may be published in their place"
    for id, of in done.duplicates.items():
        say(f"{id}: {of}: {verb}")
    if done.num_unmeasured:
        say(f"{done.num_unmeasured:,} photos were not compared with them: lhq filter {pipeline}, then remove again")
    for held in done.copies:
        num = "may hold them" if held.num is None else f"holds {held.num:,} of them"
        say(f"{held.kind} {held.place}: {num}; {held.advice}")
    num_taken = len(done.new) + (len(done.duplicates) if done.are_taken else 0)
    say(f"taken down: {num_taken:,}; lhq export {pipeline} publishes the set without them")


def _tell_erased(gone: EraseReport, pipeline: str) -> None:
    say(
        f"erased: {len(gone.ids):,} from {len(gone.shards):,} shards; an earlier export keeps its copies until the "
        f"next lhq export {pipeline}"
    )
    for id in gone.waiting:
        say(f"{id}: is in an open shard; run lhq crawl {pipeline}, which seals it, then erase again")
    for place in gone.quarantined:
        say(f"{place}: could not be read and may hold any of them; delete it")
