"""The `alis` command: one file a command, no logic here.

Commands are imported at first use, so `alis --help` is quick. This is the only
place that turns an error into one line and an exit code.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import click

from alis import __version__
from alis.errors import AlisError

# command → module of alis.cli that defines `command`; in the order that `alis --help` shows.
COMMANDS = {
    "train": "train",
    "panorama": "panorama",
    "connect": "connect",
    "resample": "resample",
    "invert": "invert",
    "clusters": "clusters",
    "video": "video",
    "serve": "serve",
    "evaluate": "evaluate",
    "plot": "plot",
    "info": "info",
    "slim": "slim",
    "import-published": "import_published",
    "push-to-hub": "push_to_hub",
}


class _Commands(click.Group):
    """A group whose commands are imported when asked for, each shown with its whole first sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = importlib.import_module(f"alis.cli.{COMMANDS[name]}").command
        assert isinstance(found, click.Command)
        return found

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
@click.version_option(__version__, prog_name="alis")
def cli() -> None:
    """Train an endless-panorama generator and paint with it.

    \b
    Example:
      alis train --data data/quickstart/export --config tiny --out runs/first
      alis panorama runs/first -o strip.png --frames 8
      alis serve demo
    """


def main() -> None:
    """Entry point: exit code 0 done, 1 the run failed somewhere, 2 the user's mistake, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except AlisError as error:
        click.echo(f"alis: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
