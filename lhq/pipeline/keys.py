"""Settings classes → every key of a pipeline file: its type, default and meaning.

A key's meaning is the docstring below its field, so the code, `lhq init --keys` and the pages in `docs/` say the same.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pydantic

from lhq.config import HttpSettings
from lhq.export import ExportSettings
from lhq.pipeline import file
from lhq.pipeline.registry import MEASURES, SOURCES


@dataclass(frozen=True)
class Key:
    """One key. `default` is spelt as in TOML: "needed" where there is none, "" where it is empty."""

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """One table; `title` is "" for the keys outside every table."""

    title: str
    about: str
    keys: tuple[Key, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def as_text(self) -> str:
        """The table as comments and keys, as they would stand in a file."""
        lines = [f"[{self.title}]"] if self.title else []
        for key in self.keys:
            default = f" = {key.default}" if key.default else ""
            lines.append(f"{key.name}{default}    ({key.type})")
            lines += textwrap.wrap(key.meaning, 100, initial_indent="    ", subsequent_indent="    ")
        return "\n".join(lines or ["no keys"])


def tables(*, own_only: bool = False) -> Iterator[Table]:
    """Every table of a pipeline file, in the order of the reference page.

    Args:
        own_only: leave out sources and measures of other installed packages.
    """
    yield Table("", "", keys_of(file.TopSettings))
    for registry, table in ((SOURCES, "source"), (MEASURES, "filter")):
        for name in registry.own if own_only else registry.names():
            title = f"{name}.NAME" if name == file.COMMAND else name
            yield _table(f"{table}.{title}", registry.load(name).settings_class)
    yield _table("rights", file.RightsSettings)
    yield _table("http", HttpSettings)
    yield _table("export", ExportSettings)
    yield _table("sandbox", file.SandboxSettings)


def _table(title: str, kind: type[pydantic.BaseModel]) -> Table:
    return Table(title, inspect.cleandoc(kind.__doc__ or ""), keys_of(kind))


def keys_of(kind: type[pydantic.BaseModel]) -> tuple[Key, ...]:
    """The keys of a settings class, in its order."""
    texts = _meanings(kind)
    return tuple(
        Key(field.alias or name, _type_of(field), _default_of(field), " ".join(texts.get(name, "").split()))
        for name, field in kind.model_fields.items()
    )


def _meanings(kind: type[pydantic.BaseModel]) -> dict[str, str]:
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


def _default_of(field: pydantic.fields.FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, pydantic.BaseModel | dict):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(_spelt(one) for one in value)}]"
    return f"{value:_}" if isinstance(value, int) else _spelt(value)


def _spelt(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type_of(field: pydantic.fields.FieldInfo) -> str:
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
