"""`alis resample`: redraw one anchor of a finished strip."""

from __future__ import annotations

import click

from alis.cli.painting_options import report, warn_about_foreign_codes
from lhq.cli.talk import say


@click.command()
@click.argument("model", type=click.Path())
@click.argument("strip", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="The new picture.")
@click.option("--anchor", type=int, help="The anchor's number; or")
@click.option("--at", type=int, help="the anchor nearest to this pixel column of the picture.")
@click.option("--variant", type=int, help="Number of the redraw; default: the next one. 0 is the original.")
@click.option("--codes", "codes_files", multiple=True, type=click.Path(), help="Saved codes that the strip uses.")
@click.option("--device", default="auto", show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing picture.")
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
    """Redraw one anchor of a painted strip; the picture stays the same outside its reach.

    The reach ends at the two neighbouring anchors, or slightly beyond them on a seamless plane. In PNG and TIFF the
    rest stays identical to the bit; in lossy formats the command reports how much it changed.

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
    warn_about_foreign_codes(g, codes_files)
    after = strips.redrawn(before, anchor=anchor, at=at, variant=variant)
    redraw.check_picture(before, Path(strip))
    done = redraw.write(before, after, Path(strip), Path(out), overwrite=force)
    report(done.strip)
    say(redraw.summary(done))
