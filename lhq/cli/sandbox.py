"""`lhq sandbox`: a local stand-in for Unsplash and Flickr."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from lhq.cli.talk import result, say
from lhq.sandbox import Sandbox


@click.group()
def command() -> None:
    """Run a local stand-in for Unsplash and Flickr, without keys or network.

    \b
    Example:
      lhq sandbox serve
      lhq sandbox serve --photos ~/pictures --port 8300
    """


@command.command()
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Serve the pictures in this folder instead of painted scenes (may be repeated).",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8210, show_default=True, help="0 picks a free one.")
@click.option("--scenes", type=click.IntRange(1, 1_000_000), default=300, show_default=True, help="Painted scenes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Each seed paints different scenes.")
@click.option("--rate-limit", type=click.IntRange(1), default=5000, show_default=True, help="Unsplash calls an hour.")
def serve(photos: tuple[Path, ...], port: int, scenes: int, seed: int, rate_limit: int) -> None:
    """Serve until interrupted; open the printed address in a browser to see the pictures.

    \b
    Example:
      lhq sandbox serve --scenes 600 --seed 3
    """
    with Sandbox(list(photos), seed=seed, num_scenes=scenes, port=port, rate_limit=rate_limit) as box:
        try:
            result({"url": box.url, "port": box.port}, box.url)
            say(
                f"serving on {box.url} until Ctrl-C. Point a pipeline at it:\n\n"
                f'  [http]\n  allow_hosts = ["127.0.0.1:{box.port}"]\n'
                f'  [source.unsplash]\n  api = "{box.url}/unsplash"\n'
                f'  permission = {{ permits = ["train"], statement = "my own sandbox" }}\n'
                f'  [source.flickr]\n  api = "{box.url}/flickr/services/rest/"\n\n'
                f"  export UNSPLASH_ACCESS_KEY=any FLICKR_API_KEY=any FLICKR_API_SECRET=any"
            )
            threading.Event().wait()
        except KeyboardInterrupt:
            say(f"stopped after {len(box.requests):,} requests")
