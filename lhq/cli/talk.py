"""How commands talk: on stderr, so that stdout is data."""

from __future__ import annotations

import click


def say(text: str) -> None:
    """One line of talk."""
    click.echo(text, err=True)
