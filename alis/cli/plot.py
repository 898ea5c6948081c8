"""`alis plot`: runs → a picture or page of their training curves."""

from __future__ import annotations

from pathlib import Path

import click

from lhq.cli.talk import result


@click.command("plot")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="A .png, .svg or .html; default: curves.png in the run."
)
def command(runs: tuple[Path, ...], out: Path | None) -> None:
    """Plot the curves of one or several runs, also while they train.

    \b
    Example:
      alis plot runs/first
      alis plot runs/first runs/second -o compare.html
    """
    from alis.training.plot import plot

    path = str(plot(runs, out or runs[0] / "curves.png"))
    result({"path": path}, path)
