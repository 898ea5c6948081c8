"""How commands talk: on stderr, so that stdout is data; not at all where `--quiet` was given."""

from __future__ import annotations

import click

QUIET = "quiet"


def is_quiet() -> bool:
    """Whether the running command was told to keep quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def say(text: str) -> None:
    """One line of talk."""
    if not is_quiet():
        click.echo(text, err=True)
