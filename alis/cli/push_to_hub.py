"""`alis push-to-hub`: a model folder → a repository of the Hugging Face Hub, with its card."""

from __future__ import annotations

import click


@click.command()
@click.argument("model", type=click.Path())
@click.argument("repository")
@click.option("--private", is_flag=True, help="Only you and those you name can see it.")
@click.option("--dry-run", is_flag=True, help="Write the files to REPOSITORY as a local folder, and send nothing.")
def command(model: str, repository: str, private: bool, dry_run: bool) -> None:
    """Publish the generator of a model folder or run as user/name on the Hub.

    Sends config.json, model.safetensors and a model card. Log in first: `hf auth login`, or HF_TOKEN.

    \b
    Example:
      alis push-to-hub models/lhq1024 someone/alis-lhq1024 --private
      alis push-to-hub models/lhq1024 look-first --dry-run
    """
    from alis import models

    click.echo(models.hub.publish(models.load(model), repository, private=private, dry_run=dry_run))
