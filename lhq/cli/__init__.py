"""The `lhq` command: one file a command, no logic here."""

from __future__ import annotations

import click

from lhq import __version__
from lhq.cli.group import CommandGroup, Entry, run_program
from lhq.errors import LhqError

# command → its module and its line in the list, in the order of `lhq --help`.
COMMANDS = {
    "run": Entry("lhq.cli.run", "Crawl, filter and export, one after the other."),
    "crawl": Entry("lhq.cli.crawl", "Search the sources and fetch photos until the store holds as many as wanted."),
    "filter": Entry("lhq.cli.filter", "Measure what has no facts yet, judge everything, and write verdicts.parquet."),
    "export": Entry("lhq.cli.export", "Publish the kept photos as Parquet that `datasets` loads as it is."),
    "status": Entry(
        "lhq.cli.status",
        "Show the funnel: candidates, waiting, failed by reason, kept by licence, and the filter's verdicts.",
    ),
    "list": Entry(
        "lhq.cli.list", "List candidates: id, status, reason of the last failure, attempts; separated by tabs."
    ),
    "show": Entry("lhq.cli.show", "Show one photo with all its facts and verdicts."),
    "report": Entry("lhq.cli.report", "Show what the filter does, as one page that opens from disk."),
    "rights": Entry("lhq.cli.rights", "Write one page, for a lawyer, on what the photos' licences and sources allow."),
    "verify": Entry(
        "lhq.cli.verify", "Check a dataset that `lhq export` wrote: schema, counts, card, every sha256, every picture."
    ),
    "remove": Entry("lhq.cli.remove", "Take photos down: they are gone from the next export and never crawled again."),
    "rehydrate": Entry(
        "lhq.cli.rehydrate", "Fetch a manifest's photos into the pipeline's store, ready for `lhq export`."
    ),
    "recheck": Entry(
        "lhq.cli.recheck",
        "Check at the photos' hosts and sources what has changed: photos, licences, opt-outs.",
    ),
    "import": Entry(
        "lhq.cli.import_", "Import photos of another collection into a pipeline's store, with licence and author."
    ),
    "init": Entry("lhq.cli.init", "Write a pipeline file, with a comment on every line that may need a change."),
    "doctor": Entry("lhq.cli.doctor", "Say what is installed, which keys are set, and what each command would lack."),
    "sandbox": Entry("lhq.cli.sandbox", "Run a local stand-in for Unsplash and Flickr, without keys or network."),
}


@click.command("lhq", cls=CommandGroup, entries=COMMANDS)
@click.version_option(__version__, prog_name="lhq")
def cli() -> None:
    """Build landscape-photo datasets: crawl, filter, export.

    \b
    Example:
      lhq run pipelines/quickstart.toml      no keys, no network
      lhq status pipelines/quickstart.toml
    """


def main() -> None:
    """Entry point; the end of the help explains the exit codes."""
    run_program(cli, LhqError)
