"""How commands print: results on stdout, as lines or JSON, and everything else on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from lhq.printable import escaped_lines

QUIET = "quiet"
JSON = "json"
_GATHERED = "gathered"


def is_quiet() -> bool:
    """Whether the running command was told to keep quiet."""
    return bool(_option(QUIET))


def wants_json() -> bool:
    """Whether the running command was asked for JSON."""
    return bool(_option(JSON))


def say(text: str) -> None:
    """Print one line to stderr, unless quiet."""
    if not is_quiet():
        click.echo(escaped_lines(text), err=True)


def result(told: Mapping[str, Any], *lines: str) -> None:
    """Print the command's result on stdout: `told` as one JSON object with --json, else `lines`."""
    gathered = _option(_GATHERED)
    if gathered is not None and wants_json():
        gathered.append(told)
    elif wants_json():
        click.echo(json.dumps(_finite(told)))
    else:
        for line in lines:
            click.echo(escaped_lines(line))


@contextmanager
def gathered() -> Iterator[list[Mapping[str, Any]]]:
    """Collect the results of commands invoked inside instead of printing them, if JSON is wanted: a command of several
    stages prints one object.
    """
    told: list[Mapping[str, Any]] = []
    meta = click.get_current_context().meta
    meta[_GATHERED] = told
    try:
        yield told
    finally:
        del meta[_GATHERED]


def _finite(value: Any) -> Any:
    """The value with NaN and infinity, which JSON lacks, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _option(name: str) -> Any:
    """The value that a flag left for this command; None outside of one."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(name)
