"""What the commands `lhq` and `alis` share: lazy subcommands, common flags, and how an error ends.

Commands are imported on first use: `--help` imports none of them, and a crawl never loads torch. Nothing
but this file turns an error into one line and an exit code.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from lhq import nearest
from lhq.cli.extras import extra_for, version_of
from lhq.cli.talk import JSON, QUIET
from lhq.printable import escaped_lines

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
EXIT_CODES = (
    "Exit codes: 0 done; 1 something failed, the rest was done; 2 a mistake in what was asked, nothing was changed; "
    "130 stopped, run the same command again to go on."
)


@dataclass(frozen=True)
class Entry:
    """One command: the module that defines `command`, its line in the list, and the extra that it needs."""

    module: str
    line: str
    extra: str = ""


class CommandGroup(click.Group):
    """A group whose commands are imported on first use and listed by their first sentence."""

    def __init__(self, *, entries: Mapping[str, Entry], **settings: Any) -> None:
        super().__init__(context_settings=SETTINGS, epilog=EXIT_CODES, **settings)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.entries]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.entries:
            return None
        found = importlib.import_module(self.entries[name].module).command
        assert isinstance(found, click.Command)
        _give_common_flags(found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        hint = nearest.word(args[0], self.entries, "")
        if args[0] not in self.entries and hint:
            ctx.fail(f'No such command "{args[0]}"; {hint}')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # `lhq list … | head` closed the pipe early; click would call that a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.line) for name, entry in self.entries.items()])


class _Printable(logging.Formatter):
    """A record as one line that no terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped_lines(super().format(record))


def run_program(group: CommandGroup, errors: type[Exception]) -> NoReturn:
    """Run a group of commands as the whole program and exit.

    Args:
        errors: base of the errors that are not bugs; each has an `exit_code`.
    """
    assert group.name is not None
    name = group.name
    # Log messages of the stages (a fallback, a fit) go to stderr, one line each.
    talk = logging.StreamHandler()
    talk.setFormatter(_Printable(f"{name}: %(message)s"))
    logging.getLogger(name).addHandler(talk)
    logging.getLogger(name).setLevel(logging.INFO)
    try:
        os.getcwd()
    except OSError as error:
        click.echo(
            f"{name}: the folder that this is run in is gone ({error.strerror}); cd to one that is there", err=True
        )
        sys.exit(2)
    try:
        code = group.main(prog_name=name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except ModuleNotFoundError as error:
        asked = next((word for word in sys.argv[1:] if word in group.entries), "")
        extra = extra_for((error.name or "").split(".")[0], group.entries[asked].extra if asked else "")
        if not extra:
            raise
        words = f"{name} {asked}".strip()
        click.echo(f"{name}: {words} needs {error.name}, which is not installed; pip install 'lhq[{extra}]'", err=True)
        sys.exit(2)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        pair = f"torch {version_of('torch')} and torchvision {version_of('torchvision')}"
        hint = "install both anew by one pip command, from one index"
        click.echo(f"{name}: {pair} are builds that do not fit each other; {hint}", err=True)
        sys.exit(2)
    except errors as error:
        click.echo(escaped_lines(f"{name}: {error}"), err=True)
        sys.exit(getattr(error, "exit_code", 1))


def _give_common_flags(command: click.Command) -> None:
    """Add the common flags to a command and its subcommands."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _give_common_flags(child)
        return
    for names, callback, text in (
        (["--json"], _set_json, "The result as JSON on stdout."),
        (["-q", "--quiet"], _set_quiet, "Nothing on stderr but warnings and errors."),
    ):
        if not any(names[-1] in param.opts for param in command.params):
            command.params.append(
                click.Option(names, is_flag=True, expose_value=False, is_eager=True, callback=callback, help=text)
            )


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[JSON] = True


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[QUIET] = True
        for name in ("lhq", "alis"):
            logging.getLogger(name).setLevel(logging.WARNING)
