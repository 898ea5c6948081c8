"""`lhq init`: a few answers → a pipeline file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lhq import pipeline
from lhq.cli.extras import is_installed
from lhq.cli.talk import result, say
from lhq.errors import InputError
from lhq.pipeline import template
from lhq.pipeline.places import shipped
from lhq.pipeline.registry import MEASURES


def _show_keys(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print every key instead of writing a file."""
    if not value or ctx.resilient_parsing:
        return
    from lhq.pipeline.keys import tables

    found = list(tables())
    result({"tables": [table.as_json() for table in found]}, "\n\n".join(table.as_text() for table in found))
    ctx.exit(0)


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--keys", is_flag=True, expose_value=False, callback=_show_keys, help="Print every key and exit.")
@click.option("--like", type=click.Choice(shipped()), help="Copy a pipeline that comes with lhq, instead of asking.")
@click.option("--source", type=click.Choice(template.SOURCES), help="Where photos come from.")
@click.option("--queries", help='What to search for: landscapes, a .txt file, or "one, two, three". [landscapes]')
@click.option("--want", type=click.IntRange(min=1), help="Photos to fetch. [1000; of a folder, all]")
@click.option("--min-side", "min_side_px", type=click.IntRange(min=16), default=1024, show_default=True, help="Pixels.")
@click.option("--folder", default="", help="Of your photographs, or of the dataset's tables.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(
    path: Path,
    like: str | None,
    source: str | None,
    queries: str | None,
    want: int | None,
    min_side_px: int,
    folder: str,
    force: bool,
) -> None:
    """Write a pipeline file, with a comment on every line that may need a change.

    On a terminal it asks for the options you leave out. The file is read back as a check.

    \b
    Example:
      lhq init mine.toml
      lhq init mine.toml --source folder --folder ~/pictures --want 500
      lhq init alps.toml --source flickr --queries "alpine lake, glacier, larch forest"
      lhq init mine.toml --like flickr-cc
      lhq init --keys | less
    """
    if path.exists() and not force:
        raise InputError(f"{path}: is there already", hint="give another name, or --force")
    if like is not None:
        if source or queries or want or folder:
            raise InputError(f"--like {like} is a whole file", hint="leave the other options out and edit the copy")
        _write(path, template.copied(like))
        say(f"{path}: a copy of {like}; read its comments, then: lhq crawl {path} --dry-run")
        result({"path": str(path), "like": like})
        return
    asks = sys.stdin.isatty()
    if source is None:
        if not asks:
            raise InputError("no source", hint=f"give --source: {', '.join(template.SOURCES)}")
        source = click.prompt("Where do the photos come from", type=click.Choice(template.SOURCES), default="sandbox")
    if source in template.NEEDS_FOLDER and not folder:
        if not asks:
            raise InputError(f"source {source} has no folder", hint="give --folder")
        folder = click.prompt("In which folder")
    if queries is None and source not in template.NEEDS_FOLDER:
        queries = click.prompt("What to search for", default="landscapes") if asks else "landscapes"
    if want is None:
        want = 0 if source == "folder" else 1000
        if asks and want:
            want = click.prompt("How many photos", type=click.IntRange(min=1), default=want)
    can_see = all(is_installed(module) for module in MEASURES.load("objects").needs)
    _write(path, template.text(template.Answers(path.stem, source, queries or "", want, min_side_px, folder, can_see)))
    if not can_see:
        say("[filter.objects] is commented out: it needs pip install 'lhq[ml]'")
    say(f"{path}: written; read its comments, then: lhq crawl {path} --dry-run")
    result({"path": str(path), "source": source, "queries": queries, "want": want or None, "min_side_px": min_side_px})


def _write(path: Path, text: str) -> None:
    """Write the file and read it back; what was there before stays if the new one can't be read."""
    before = path.read_bytes() if path.exists() else None
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})", hint="give another place") from None
    try:
        pipeline.load(path)
    except BaseException:
        path.unlink() if before is None else path.write_bytes(before)
        raise
