"""`alis resample`: redraw one anchor of a finished strip."""

from __future__ import annotations

import click

from alis.cli.painting import report, tell_foreign
from lhq.cli.talk import say


@click.command()
@click.argument("model", type=click.Path())
@click.argument("strip", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="The new picture.")
@click.option("--anchor", type=int, help="Which anchor; or")
@click.option("--at", type=int, help="the anchor nearest to this pixel column of the picture.")
@click.option("--variant", type=int, help="Which redraw; by default the next one. 0 is the first draw.")
@click.option("--codes", "codes_files", multiple=True, type=click.Path(), help="Saved codes the strip was made with.")
@click.option("--device", default="auto", show_default=True)
@click.option("--force", is_flag=True, help="Replace a finished picture of that name.")
def command(
    model: str,
    strip: str,
    out: str,
    anchor: int | None,
    at: int | None,
    variant: int | None,
    codes_files: tuple[str, ...],
    device: str,
    force: bool,
) -> None:
    """Redraw one anchor; beyond its reach the picture stays as it was, to the bit.

    The reach is up to its two neighbours, on a plane without seams a little further, and is told. To the bit: in PNG
    and TIFF; lossy formats store neighbouring pixels together, and what changed elsewhere is told.

    \b
    Example:
      alis resample runs/first strip.png --at 300 -o other.png
    """
    from pathlib import Path

    from alis import models
    from alis.painting import clusters, redraw
    from alis.painting import strip as strips
    from alis.painting.panorama import choose_device
    from alis.plane import codes

    g = models.load(model, device=choose_device(device))
    before = strips.read(strip, g, codes=codes.read_all(codes_files), centres=clusters.find(model, g.config))
    tell_foreign(g, codes_files)
    after = strips.redrawn(before, anchor=anchor, at=at, variant=variant)
    redraw.check_picture(before, Path(strip))
    done = redraw.write(before, after, Path(strip), Path(out), overwrite=force)
    report(done.strip)
    say(redraw.summary(done))
