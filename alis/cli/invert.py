"""`alis invert`: photograph → code."""

from __future__ import annotations

from pathlib import Path

import click

from lhq.cli.talk import result, say


@click.command()
@click.argument("model", type=click.Path())
@click.argument("photo", type=click.Path())
@click.option("-o", "--out", type=click.Path(), help="The code's file; default: PHOTO's name with .safetensors, here.")
@click.option("--space", type=click.Choice(["w", "w+"]), default="w+", show_default=True, help="w+ comes closer.")
@click.option("--steps", type=int, default=300, show_default=True, help="More come closer, up to a point.")
@click.option(
    "--crop", "position", type=float, default=0.5, show_default=True, help="Where to cut the square: 0 left, 1 right."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random scenes to start from.")
@click.option(
    "--tries", type=int, default=4, show_default=True, help="How many random scenes to optimise before choosing one."
)
@click.option(
    "--mirror", is_flag=True, help="Also try the mirrored photograph and keep the better one; takes twice as long."
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--force", is_flag=True, help="Replace an existing code.")
def command(
    model: str,
    photo: str,
    out: str | None,
    space: str,
    steps: int,
    position: float,
    seed: int,
    tries: int,
    mirror: bool,
    device: str,
    force: bool,
) -> None:
    """Find the code whose scene looks most like a photograph.

    Writes the code and a picture that shows the photograph and the scene side by side.

    \b
    Example:
      alis invert runs/first photo.jpg
      alis connect runs/first photo.safetensors 7 -o walk.png
    """
    from alis import models
    from alis.painting import invert, scene
    from alis.painting.panorama import choose_device

    g = models.load(model, device=choose_device(device))
    target = Path(out) if out else Path(Path(photo).stem + ".safetensors")
    done = invert.to_file(
        g,
        invert.Photograph(photo, position, mirror),
        target,
        d=invert.discriminator(model, g),
        space=space,
        steps=steps,
        seed=seed,
        tries=tries,
        overwrite=force,
    )
    table = {"path": str(target), "structure": done.structure, "psnr_db": done.psnr_db, "mirrored": done.is_mirrored}
    result({**table, "distance_at_start": done.loss_start, "distance": done.loss}, str(target))
    say(f"structure {done.structure:.2f} · {done.psnr_db:.1f} dB{' · mirrored' * done.is_mirrored}")
    say(f"distance {done.loss_start:.3f} → {done.loss:.3f}")
    if not scene.encodes_positions(g):
        say("this model's codes hold sky, horizon, ground and colours; the plane decides where its shapes are")
