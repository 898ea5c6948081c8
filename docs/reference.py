"""Settings and commands → the reference pages: `python docs/reference.py` writes them, `--check` says which are stale.

`pipeline-file.md` has every key of a pipeline file, `recipe.md` every key of a training recipe, `commands.md` what
every command answers to `--help`. All is read from the code: a setting's text is the docstring below it.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pydantic

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from lhq.pipeline.keys import Key, keys_of, tables  # noqa: E402  found by the line above

_BY = "*Made by `python docs/reference.py` from the code; the test suite fails where the two differ.*"


def keys(kind: type[pydantic.BaseModel]) -> str:
    """A settings class as a Markdown table."""
    return _rows(keys_of(kind))


def _rows(keys: Sequence[Key]) -> str:
    lines = ["| key | | default | |", "|---|---|---|---|"]
    for key in keys:
        default = key.default if key.default in {"", "needed"} else f"`{key.default}`"
        meaning = key.meaning.replace("|", "\\|")
        lines.append(f"| `{key.name}` | {key.type} | {default} | {meaning} |")
    return "\n".join(lines) if keys else "No keys."


def _about(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def pipeline_file() -> str:
    parts = [
        "# The pipeline file",
        _BY,
        "One TOML file says everything but the keys of services, which come from the environment. An unknown key is an "
        "error that names the nearest one. `lhq init` writes a commented file and `lhq init --keys` prints this page. "
        "Nine files in [`pipelines/`](../pipelines) come with the package: `lhq run quickstart` runs one by its name, "
        "`lhq init mine.toml --like quickstart` copies one for you to edit.",
        "Paths are relative to the file (`store`, `local`, `queries`, `to`, `deny`, the `path` of a source, `photos` "
        "of the sandbox); `~` is your home; so are `trusted`, `weights` and `features` "
        "where they name a file. A store that an earlier version left where lhq is run is found there, and "
        "that is said. "
        "The file, queries, papers and lists of ids may be UTF-8 with or without its mark, or UTF-16 with it.",
    ]
    for table in tables(own_only=True):
        parts += [f"## `[{table.title}]`" if table.title else "## Outside every table", table.about, _rows(table.keys)]
    return "\n\n".join(part for part in parts if part) + "\n"


def recipe() -> str:
    from alis.training.recipe import TrainConfig

    parts = [
        "# The training recipe",
        _BY,
        "A recipe is a TOML file of these tables; `alis train --config` takes one of the shipped names or a file that "
        "holds only what differs. Every key is a flag as well: `--loss.r1-gamma 5`, `--data.no-mirror`.",
    ]
    for name, field in TrainConfig.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            parts += [f"## `[{name}]`", _about(kind), keys(kind)]
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    parts = ["# Every command", _BY]
    for package in ("lhq", "alis"):
        group = importlib.import_module(f"{package}.cli").cli
        for words, command in _walk(package, group):
            context = click.Context(command, info_name=words, terminal_width=100, max_content_width=100)
            parts += [f"## {words}", f"```\n{command.get_help(context).rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _walk(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None, f"{words} {name}"
            yield from _walk(f"{words} {name}", found)


PAGES: dict[str, Any] = {"pipeline-file.md": pipeline_file, "recipe.md": recipe, "commands.md": commands}


def stale() -> list[str]:
    """The pages that are not what the code says now."""
    return [
        name
        for name, page in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != page()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a page is stale")
    if parser.parse_args().check:
        found = stale()
        print("\n".join(f"docs/{name} is stale: run python docs/reference.py" for name in found))
        sys.exit(bool(found))
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
