"""`alis connect`: several scenes in one picture."""

from __future__ import annotations

import click

from alis.cli.painting_options import PaintingOptions, open_panorama, painting_options, report, warn_about_foreign_codes


@click.command()
@click.argument("model", type=click.Path())
@click.argument("scenes", nargs=-1, required=True)
@click.option("-o", "--out", required=True, type=click.Path(), help="Picture: .png .jpg .webp .tif (BigTIFF) .dzi.")
@click.option("--gap", type=int, default=0, show_default=True, help="Random anchors between two scenes.")
@click.option("--steps", type=int, default=300, show_default=True, help="Inversion steps for each photograph.")
@click.option("--force", is_flag=True, help="Replace an existing picture.")
@painting_options
def command(
    model: str,
    scenes: tuple[str, ...],
    out: str,
    gap: int,
    steps: int,
    force: bool,
    painting: PaintingOptions,
) -> None:
    """Paint one picture through several scenes: seeds, saved codes or photographs.

    A photograph is inverted first (alis invert); its code is saved beside the picture and reused by the next run.

    \b
    Example:
      alis connect runs/first 3 14 15 -o walk.png --gap 1
      alis connect runs/first beach.jpg 7 alps.safetensors -o home.png
    """
    from alis.painting import connect, strip

    parsed = connect.parse_scenes(scenes)
    panorama = open_panorama(model, painting)
    warn_about_foreign_codes(panorama.g, [scene for scene in scenes if scene.endswith(".safetensors")])
    connect.check(panorama, parsed, out, gap=gap, overwrite=force)
    panorama = connect.with_codes(panorama, parsed, model=model, out=out, steps=steps)
    report(strip.paint(connect.plan(panorama, parsed.sources, gap=gap), out, overwrite=force))
