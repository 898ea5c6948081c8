"""`alis video`: a film of the endless plane."""

from __future__ import annotations

import click

from alis.cli.painting import Painting, open_panorama, painting_options
from lhq.cli.talk import result, say


@click.command()
@click.argument("model", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="Film: .mp4 (H.264) or .webm (VP9).")
@click.option("--seconds", type=float, default=10.0, show_default=True)
@click.option("--speed", type=float, help="Pan: pixels of the plane a second, negative to the left; default R/4.")
@click.option("--changes", type=int, help="Instead of a pan, a still camera while scenes turn into so many others.")
@click.option("--fps", type=int, default=30, show_default=True, help="Frames a second.")
@click.option("--aspect", default="16:9", show_default=True, help="Width:height.")
@click.option("--height", type=int, help="Of the film; by default the model's.")
@click.option("--start", type=int, default=0, show_default=True, help="First pixel column.")
@click.option("--loop", is_flag=True, help="The end meets the beginning.")
@click.option("--force", is_flag=True, help="Replace a finished film of that name.")
@painting_options
def command(
    model: str,
    out: str,
    seconds: float,
    speed: float | None,
    changes: int | None,
    fps: int,
    aspect: str,
    height: int | None,
    start: int,
    loop: bool,
    force: bool,
    painting: Painting,
) -> None:
    """Film the plane: a camera that pans, or scenes that turn into others.

    \b
    Example:
      alis video runs/first -o pan.mp4 --seconds 20 --speed 40 --height 480
      alis video runs/first -o turn.webm --changes 4 --aspect 3:1 --loop
    """
    from alis.painting import video

    panorama = open_panorama(model, painting)
    shot = video.shot(panorama, seconds=seconds, fps=fps, aspect=aspect, height=height)
    frames = video.film(panorama, shot, speed=speed, changes=changes, start=start, loop=loop)
    video.write(out, frames, shot, overwrite=force)
    told = {"path": out, "width_px": shot.width, "height_px": shot.height, "frames": shot.num_frames}
    result({**told, "seconds": shot.seconds}, out)
    say(f"{shot.width}×{shot.height} px · {shot.num_frames} frames · {shot.seconds:g} s")
