"""`lhq rights`: what the store's photos may be used for, on one page."""

from __future__ import annotations

import click

from lhq import pipeline
from lhq.cli.talk import result, say, wants_json


@click.command()
@click.argument("pipeline_file", metavar="PIPELINE", type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the page here; HTML if it ends in .html.")
@click.option("--summary", is_flag=True, help="Only the public summary of training content (EU AI Act).")
def command(pipeline_file: str, output: str | None, summary: bool) -> None:
    """Write one page, for a lawyer, on what the photos' licences and sources allow.

    Sources and their terms, licences, permissions with their wording, opt-out signals and their answers, takedowns,
    what each publish mode would contain, and the public summary of training content that Article 53(1)(d) of the EU's
    AI Act requires. It changes nothing and sends nothing.

    \b
    Example:
      lhq rights pipelines/lhq-90k.toml
      lhq rights pipelines/lhq-90k.toml -o rights.html
      lhq rights pipelines/lhq-90k.toml --summary
    """
    loaded = pipeline.load(pipeline_file)
    if output:
        loaded.rights_page(output, only_summary=summary)
        say(f"{output}: written")
    if wants_json():
        result(loaded.rights().as_dict())
    elif not output:
        click.echo(loaded.rights_text(only_summary=summary))
