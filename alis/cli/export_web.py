"""`alis export-web`: the live page as a static folder."""

from __future__ import annotations

from pathlib import Path

import click

from lhq.cli.talk import result, say


@click.command()
@click.argument("model", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="The folder to write.")
@click.option("--codes", "codes_files", multiple=True, type=click.Path(), help="Saved codes to offer (alis invert).")
@click.option("--seed", type=int, default=0, show_default=True, help="The plane that the page opens with.")
@click.option("--psi", type=float, default=1.0, show_default=True, help="Truncation that the page opens with.")
@click.option("--runtime", type=click.Path(), help="onnxruntime-web's npm tarball, if there is no network.")
@click.option("--no-webgpu", is_flag=True, help="Leave out the runtime for GPUs (27 MB).")
@click.option("--force", is_flag=True, help="Replace a folder that this command wrote.")
def command(
    model: str,
    out: str,
    codes_files: tuple[str, ...],
    seed: int,
    psi: float,
    runtime: str | None,
    no_webgpu: bool,
    force: bool,
) -> None:
    """Write the live page as static files: the visitor's browser paints, no server is needed.

    The runtime is downloaded once from the npm registry (a pinned version, checked) and cached. Without a network, get
    the file elsewhere with npm pack onnxruntime-web@1.30.0 and pass --runtime onnxruntime-web-1.30.0.tgz.

    \b
    Example:
      alis export-web demo -o site
      python -m http.server --directory site
    """
    from alis.cli.painting_options import PaintingOptions, open_panorama
    from alis.web.static import site

    panorama = open_panorama(model, PaintingOptions(seed, psi), codes_files)
    name = Path(model).resolve().name
    made = site.write(panorama, out, name=name, runtime=runtime, webgpu=not no_webgpu, overwrite=force)
    table = {"folder": str(made.folder), "size_bytes": made.size_bytes, "first_load_bytes": made.first_load_bytes}
    result(table, str(made.folder))
    say(f"{made.size_bytes / 1e6:.1f} MB · first load {made.first_load_bytes / 1e6:.1f} MB")
