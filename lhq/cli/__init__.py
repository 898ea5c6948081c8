"""The `lhq` command: one file a command, no logic here.

Commands are imported at first use, so `lhq --help` is quick and a crawl never loads torch. This is the only
place that turns an error into one line and an exit code.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys

import click

from lhq import __version__
from lhq.errors import LhqError

# command → module of lhq.cli that defines `command`; in the order that `lhq --help` shows.
COMMANDS = {
    "run": "run",
    "crawl": "crawl",
    "filter": "filter",
    "export": "export",
    "status": "status",
    "list": "list",
    "show": "show",
    "report": "report",
    "verify": "verify",
    "remove": "remove",
    "rehydrate": "rehydrate",
    "recheck": "recheck",
    "import": "import_",
    "sandbox": "sandbox",
}


class _Commands(click.Group):
    """A group whose commands are imported when asked for, each shown with its whole first sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = importlib.import_module(f"lhq.cli.{COMMANDS[name]}").command
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # `lhq list … | head` has what it wanted; click would call that a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near:
            ctx.fail(f'No such command "{args[0]}"; did you mean "{near[0]}"?')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(200)) for name, one in commands if one is not None])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lhq")
def cli() -> None:
    """Build landscape-photo datasets: crawl, filter, export.

    \b
    Example:
      lhq run pipelines/quickstart.toml      no keys, no network
      lhq status pipelines/quickstart.toml
    """


def main() -> None:
    """Entry point: exit code 0 done, 1 the run failed somewhere, 2 the user's mistake, 130 interrupted."""
    # What stages have to say as they go (a fallback, a fit made) is talk: one line each, on stderr.
    talk = logging.StreamHandler()
    talk.setFormatter(logging.Formatter("lhq: %(message)s"))
    logging.getLogger("lhq").addHandler(talk)
    logging.getLogger("lhq").setLevel(logging.INFO)
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except LhqError as error:
        click.echo(f"lhq: {error}", err=True)
        sys.exit(error.exit_code)
