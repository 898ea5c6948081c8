"""`alis push-to-hub`: model folder → a repository of the Hugging Face Hub, with a model card; or the live page."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from lhq.cli.talk import result


@click.command()
@click.argument("model", type=click.Path())
@click.argument("repository")
@click.option("--space", is_flag=True, help="Publish the live page as a static Space, not the model (alis export-web).")
@click.option("--runtime", type=click.Path(), help="For --space: onnxruntime-web's npm tarball, if not downloaded.")
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option("--dry-run", is_flag=True, help="Write the files to a local folder named REPOSITORY; upload nothing.")
def command(model: str, repository: str, space: bool, runtime: str | None, private: bool, dry_run: bool) -> None:
    """Publish the generator of a model folder or run as user/name on the Hub.

    Uploads config.json, model.safetensors and a model card; with --space, a page that paints in the visitor's browser.
    Log in first, with `hf auth login` or HF_TOKEN.

    \b
    Example:
      alis push-to-hub models/lhq1024 someone/alis-lhq1024 --private
      alis push-to-hub models/lhq1024 look-first --dry-run
      alis push-to-hub demo someone/endless-panorama --space
    """
    from alis import models

    if not space:
        _report(models.hub.publish(models.load(model), repository, private=private, dry_run=dry_run), dry_run)
        return
    from alis.cli.painting_options import PaintingOptions, open_panorama
    from alis.web.static import site

    panorama = open_panorama(model, PaintingOptions())
    name = repository.rpartition("/")[2]
    if dry_run:
        _report(str(site.write(panorama, repository, name=name, runtime=runtime).folder), dry_run)
        return
    with tempfile.TemporaryDirectory() as scratch:
        made = site.write(panorama, Path(scratch) / "site", name=name, runtime=runtime)
        _report(models.hub.publish_space(made.folder, repository, private=private), dry_run)


def _report(place: str, is_local: bool) -> None:
    result({"folder" if is_local else "address": place}, place)
