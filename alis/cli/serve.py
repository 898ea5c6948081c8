"""`alis serve`: the live page."""

from __future__ import annotations

from pathlib import Path

import click

from alis.cli.painting_options import PaintingOptions, open_panorama, painting_options
from lhq.cli.talk import result


@click.command()
@click.argument("model", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 shows the page to the whole network.")
@click.option("--port", type=click.IntRange(0, 65535), default=8200, show_default=True, help="0 takes a free one.")
@click.option("--codes", "codes_files", multiple=True, type=click.Path(), help="Saved codes to offer (alis invert).")
@click.option("--queue", type=click.IntRange(1), default=256, show_default=True, help="Most tiles waiting.")
@click.option("--cache-mb", type=click.IntRange(1), default=256, show_default=True, help="Size of the tile cache, MB.")
@click.option("--max-frames", type=click.IntRange(1), default=128, show_default=True, help="Widest strip to download.")
@click.option(
    "--per-viewer",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Most connections, and concurrent requests, of one address.",
)
@click.option(
    "--connections", type=click.IntRange(1), default=1024, show_default=True, help="Most connections of all viewers."
)
@click.option(
    "--allow-host", "hosts", multiple=True, help="Accept only this host name in the address bar; may be repeated."
)
@click.option("--proxy", "proxies", multiple=True, help="Address of a reverse proxy whose X-Forwarded-For is trusted.")
@painting_options
def command(
    model: str,
    host: str,
    port: int,
    codes_files: tuple[str, ...],
    queue: int,
    cache_mb: int,
    max_frames: int,
    per_viewer: int,
    connections: int,
    hosts: tuple[str, ...],
    proxies: tuple[str, ...],
    painting: PaintingOptions,
) -> None:
    """Serve the live page: pan for ever, redraw, lock, connect, share, download.

    MODEL is a model folder, a run's folder, or the word demo: the small model that comes with alis.

    \b
    Example:
      alis serve demo
      alis serve runs/first
      alis serve runs/first --port 8080 --codes my-photo.safetensors
      alis serve runs/first --proxy 127.0.0.1 --allow-host panorama.example
    """
    from alis.web import app, painter, serve
    from alis.web.connections import ConnectionLimits

    listener = serve.bind(host, port)
    panorama = open_panorama(model, painting, codes_files)
    work = painter.Painter(panorama, queue_tiles=queue, cache_bytes=cache_mb << 20)
    work.warm(sorted(range(-4, 12), key=lambda k: abs(k - panorama.g.config.anchor_patches // 2)))
    page = app.create(
        panorama,
        name=Path(model).resolve().name,
        max_frames=max_frames,
        per_viewer=per_viewer,
        hosts=hosts,
        painter=work,
    )
    limits = ConnectionLimits(connections=connections, per_viewer=per_viewer, proxies=proxies)
    serve.run(page, listener, started=lambda url: result({"url": url}, url), limits=limits)
