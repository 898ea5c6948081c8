"""Options of commands whose work an engine can distribute."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def engine_options(command: Command) -> Command:
    """`--engine` and `--address`, as `engine: str` and `address: str`, both empty if not given."""
    where = click.option("--address", default="", help="Head of the Ray cluster, HOST:PORT; by default RAY_ADDRESS.")
    return click.option("--engine", default="", help="local, ray, or one of an installed package; overrides the file.")(
        where(command)
    )
