"""Settings and commands → the reference pages: `python docs/reference.py` writes them, `--check` says which are stale.

`pipeline-file.md` has every key of a pipeline file, `recipe.md` every key of a training recipe, `commands.md` what
every command answers to `--help`. All is read from the code: a setting's text is the docstring below it.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pydantic

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
_BY = "*Made by `python docs/reference.py` from the code; the test suite fails where the two differ.*"


def described(kind: type[pydantic.BaseModel]) -> dict[str, str]:
    """Key → the docstring below it, of a settings class and those it is made from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base in (pydantic.BaseModel, object) or not issubclass(base, pydantic.BaseModel):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for line, below in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                said = below.value if isinstance(below, ast.Expr) else None
                text = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
                found[line.target.id] = inspect.cleandoc(text)
    return found


def default_of(field: pydantic.fields.FieldInfo) -> str:
    """A field's default as TOML spells it."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, list | tuple | set | frozenset):
        return f"`[{', '.join(_spelt(one) for one in value)}]`"
    if isinstance(value, pydantic.BaseModel | dict):
        return ""
    return f"`{value:_}`" if isinstance(value, int) else f"`{value}`"


def _spelt(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def type_of(field: pydantic.fields.FieldInfo) -> str:
    """A field's type in words of TOML, with its bounds."""
    if str(field.annotation).startswith("dict"):
        return "tables"
    said = str(field.annotation) if not isinstance(field.annotation, type) else field.annotation.__name__
    for old, new in (
        ("typing.", ""),
        ("NoneType", ""),
        (" | None", ""),
        ("tuple[str, ...]", "list of str"),
        ("tuple[float, ...]", "list of float"),
        ("tuple[int, ...]", "list of int"),
        ("list[str]", "list of str"),
        ("Literal[", "one of "),
        ("'", '"'),
        ('<class "', ""),
        ("str", "string"),
        ("bool", "true or false"),
        ("pathlib.Path", "path"),
        ("int", "integer"),
        ("float", "number"),
    ):
        said = said.replace(old, new)
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(rule, name, None) is not None
    ]
    return " ".join([said.removesuffix("]").replace("|", "or"), *bounds])


def keys(kind: type[pydantic.BaseModel]) -> str:
    """A settings class as a Markdown table."""
    texts = described(kind)
    lines = ["| key | | default | |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        text = " ".join(texts.get(name, "").split()).replace("|", "\\|")
        lines.append(
            f"| `{field.alias or name}` | {type_of(field).replace('|', 'or')} | {default_of(field)} | {text} |"
        )
    return "\n".join(lines) if kind.model_fields else "No keys."


def _about(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def pipeline_file() -> str:
    from lhq.config import HttpSettings
    from lhq.export import ExportSettings
    from lhq.pipeline import file
    from lhq.pipeline.registry import MEASURES, SOURCES

    parts = [
        "# The pipeline file",
        _BY,
        "One TOML file says everything but the keys of services, which come from the environment. An unknown key is an "
        "error that names the nearest one. `lhq init` writes a commented file; [`pipelines/`](../pipelines) has nine, "
        "which come with the package and go by their names too: `lhq run quickstart`.",
        "Paths are relative to the file (`store`, `local`, `queries`, `to`, `deny`, the `path` of a source, `photos` "
        "of the sandbox); `~` is your home; so are `trusted`, `weights` and `features` "
        "where they name a file. A store that an earlier version left where lhq is run is found there, and "
        "that is said. "
        "The file, queries, papers and lists of ids may be UTF-8 with or without its mark, or UTF-16 with it.",
        "## Outside every table",
        keys(file._Top),
    ]
    for registry, table in ((SOURCES, "source"), (MEASURES, "filter")):
        for name in registry.own:
            kind = registry.load(name).settings_class
            title = f"{name}.NAME" if name == file.COMMAND else name
            parts += [f"## `[{table}.{title}]`", _about(kind), keys(kind)]
    for title, kind in (("http", HttpSettings), ("export", ExportSettings), ("sandbox", file.SandboxSettings)):
        parts += [f"## `[{title}]`", _about(kind), keys(kind)]
    return "\n\n".join(parts) + "\n"


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
