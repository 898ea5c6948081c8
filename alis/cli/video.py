"""`alis video`: a video of the endless plane."""

from __future__ import annotations

import click

from alis.cli.painting_options import PaintingOptions, open_panorama, painting_options
from lhq.cli.talk import result, say


@click.command()
@click.argument("model", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="Video: .mp4 (H.264) or .webm (VP9).")
@click.option("--seconds", type=float, default=10.0, show_default=True)
@click.option("--speed", type=float, help="Pan: pixels of the plane per second, negative to the left; default R/4.")
@click.option("--changes", type=int, help="No pan: a still camera while each scene morphs into this many others.")
@click.option("--fps", type=int, default=30, show_default=True, help="Frames per second.")
@click.option("--aspect", default="16:9", show_default=True, help="Width:height.")
@click.option("--height", type=int, help="Of the video in pixels; default: the model's.")
@click.option("--start", type=int, default=0, show_default=True, help="First pixel column.")
@click.option("--loop", is_flag=True, help="Make the video loop without a jump.")
@click.option("--force", is_flag=True, help="Replace an existing video.")
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
    painting: PaintingOptions,
) -> None:
    """Make a video of the plane: a camera that pans, or scenes that morph.

    \b
    Example:
      alis video runs/first -o pan.mp4 --seconds 20 --speed 40 --height 480
      alis video runs/first -o turn.webm --changes 4 --aspect 3:1 --loop
    """
    from alis.painting import video

    panorama = open_panorama(model, painting)
    settings = video.video_settings(panorama, seconds=seconds, fps=fps, aspect=aspect, height=height)
    frames = video.video_frames(panorama, settings, speed=speed, changes=changes, start=start, loop=loop)
    video.write(out, frames, settings, overwrite=force)
    table = {"path": out, "width_px": settings.width, "height_px": settings.height, "frames": settings.num_frames}
    result({**table, "seconds": settings.seconds}, out)
    say(f"{settings.width}×{settings.height} px · {settings.num_frames} frames · {settings.seconds:g} s")
