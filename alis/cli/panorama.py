"""`alis panorama`: paint a strip of the endless plane."""

from __future__ import annotations

import click

from alis.cli.painting_options import PaintingOptions, open_panorama, painting_options, report


@click.command()
@click.argument("model", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="Picture: .png .jpg .webp .tif (BigTIFF) .dzi.")
@click.option("--width", type=int, help="In pixels.")
@click.option("--frames", type=int, help="In frames of R pixels, instead of --width; 8 if neither is given.")
@click.option("--start", type=int, default=0, show_default=True, help="First pixel column; may be negative.")
@click.option("--loop", is_flag=True, help="Join the end to the start; rounds the width to whole anchors.")
@click.option("--force", is_flag=True, help="Replace an existing picture.")
@painting_options
def command(
    model: str,
    out: str,
    width: int | None,
    frames: int | None,
    start: int,
    loop: bool,
    force: bool,
    painting: PaintingOptions,
) -> None:
    """Paint a strip of the endless plane, of any width, in constant memory.

    After an interruption, the same command continues where it stopped. MODEL is a model folder, a run's folder, or the
    word demo.

    \b
    Example:
      alis panorama demo -o first.png
      alis panorama runs/first -o strip.png --frames 8
      alis panorama runs/first -o long.tif --width 100000 --seed 7 --psi 0.8
      alis panorama runs/first -o ring.jpg --frames 16 --loop
    """
    from alis.painting import strip

    panorama = open_panorama(model, painting)
    plan = strip.plan(panorama, width=width, frames=frames, start=start, loop=loop)
    report(strip.paint(plan, out, overwrite=force))
