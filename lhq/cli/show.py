"""`lhq show`: one photo with all its facts and verdicts."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lhq import pipeline
from lhq.cli.talk import result, say, wants_json
from lhq.printable import escaped, escaped_lines
from lhq.report.show import Shown


@click.command()
@click.argument("id", metavar="ID")
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("--image", type=click.Path(dir_okay=False), help="Write the photo here (JPEG), with what was detected.")
def command(id: str, pipeline_file: str, image: str | None) -> None:
    """Show one photo with all its facts and verdicts.

    \b
    Example:
      lhq show flickr:53154813171 pipelines/quickstart.toml
      lhq show flickr:53154813171 pipelines/quickstart.toml --image photo.jpg
    """
    loaded = pipeline.load(pipeline_file)
    shown = loaded.show(id)
    if image:
        loaded.picture(shown, image)
        say(f"{image}: written")
    if wants_json():
        result(shown.as_dict())
    else:
        _print(shown)


def _print(shown: Shown) -> None:
    """Papers, verdicts and facts as three tables."""
    # Remote text is not markup; a pipe gets it in full, a narrow terminal gets it wrapped.
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 100_000
    fate = f"dropped by {shown.reason}" if shown.reason else "kept" if shown.verdicts else "not judged"
    console.print(Text.assemble((escaped(shown.papers["id"]), "bold"), f" · {fate} · shard {shown.shard:06d}"))
    papers = Table("paper", Column("value", overflow="fold"), box=None)
    for name, value in shown.papers.items():
        papers.add_row(name, _words(value))
    verdicts = Table("measure", "verdict", "score", Column("why", overflow="fold"), box=None)
    for name, verdict in shown.verdicts.items():
        score = "" if verdict.score != verdict.score else f"{verdict.score:.6g}"
        verdicts.add_row(name, "keeps" if verdict.kept else "drops", score, escaped(verdict.detail))
    facts = Table("measure", "fact", Column("value", overflow="fold"), box=None)
    for name, found in shown.facts.items():
        if found is None:
            facts.add_row(name, "", "not measured")
            continue
        for key, value in found.items():
            facts.add_row(name, key, _words(value))
    for table in (papers, verdicts, facts):
        console.print()
        console.print(table)


def _words(value: object) -> str:
    """A value on one short line; bytes and long lists by their size."""
    if value is None:
        return "-"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        if value and isinstance(value[0], bytes):
            return f"{len(value)} of {len(value[0])} bytes"
        shown = ", ".join(_words(one) for one in value[:12])
        return shown if len(value) <= 12 else f"{shown}, … ({len(value)})"
    return escaped_lines(str(value))
