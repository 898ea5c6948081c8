"""A permission beyond the licence, as data: what it allows is a list, its words are kept as evidence.

Prose can't be trusted to a search for words ("publishing is prohibited" holds "publish"), so only the list counts.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq import nearest

WORDS = {
    "train": "machines may learn from the photos",
    "redistribute": "their bytes may be handed on",
    "commercial": "they may be used commercially",
    "adapt": "changed versions (scaled, cropped) may be handed on",
}
EXAMPLE = '{ permits = ["train"], statement = "what was allowed, word for word", by = "who", on = 2026-05-01 }'


class Permission(pydantic.BaseModel):
    """`permission = { permits = ["train", "redistribute"], statement = "…", by = "…", on = 2026-05-01 }`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    permits: tuple[str, ...] = pydantic.Field(min_length=1)
    """What is allowed, in words of `WORDS`; nothing else is."""
    statement: str
    """What the rights holder said, word for word; it travels with every row."""
    by: str = ""
    """Who gave it."""
    on: datetime.date | None = None
    """When it was given."""

    @pydantic.field_validator("permits")
    @classmethod
    def _are_words(cls, permits: tuple[str, ...]) -> tuple[str, ...]:
        for word in permits:
            check_word(word)
        return tuple(word for word in WORDS if word in permits)

    @pydantic.field_validator("statement")
    @classmethod
    def _says_something(cls, statement: str) -> str:
        if not statement.strip():
            raise ValueError("a permission without its words is none: quote what was allowed")
        return statement.strip()

    @pydantic.field_validator("on")
    @classmethod
    def _was_given(cls, on: datetime.date | None) -> datetime.date | None:
        return _given(on)

    def papers(self) -> dict[str, Any]:
        """The columns of a row's papers that hold it."""
        return {
            "permits": self.permits,
            "permission": self.statement,
            "permission_by": self.by.strip(),
            "permission_on": self.on.isoformat() if self.on else "",
        }


def check_word(word: str) -> None:
    """Raises ValueError, with the nearest word, for one that no permission can list."""
    if word not in WORDS:
        hint = nearest.word(word, WORDS, f"known words: {', '.join(WORDS)}")
        raise ValueError(f'permits = "{word}": {hint}')


def _given(on: datetime.date | None) -> datetime.date | None:
    """The day of a permission. Raises ValueError for one that is still to come, where it is today already."""
    if on and on > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
        raise ValueError(f"a permission counts once it was given, and {on.isoformat()} is still to come")
    return on


def from_setting(value: object) -> object:
    """The value of a `permission` key, ready to be validated; None for an empty one.

    Raises:
        ValueError: it is prose; says what to write instead.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        raise ValueError(f"a sentence allows nothing by itself; list what it allows: permission = {EXAMPLE}")
    if value is not None and not isinstance(value, (Mapping, Permission)):
        raise ValueError(f"a table is meant, with the words that allow it: permission = {EXAMPLE}")
    return value


def from_columns(row: Mapping[str, str]) -> dict[str, Any]:
    """The columns `permits` (words apart by spaces or commas), `permission`, `permission_by`, `permission_on` of a
    table of papers.

    Raises:
        ValueError: a statement without a list, a list without a statement, an unknown word, or no date.
    """
    words = row.get("permits", "").replace(",", " ").replace(";", " ").split()
    statement = row.get("permission", "").strip()
    if not words and not statement:
        return {}
    if not words:
        raise ValueError(
            'column "permission" without "permits": a sentence allows nothing by itself; '
            f"list what it allows: {', '.join(WORDS)}"
        )
    if not statement:
        raise ValueError('column "permits" without "permission": quote the words that allow it')
    for word in words:
        check_word(word)
    said = row.get("permission_on", "").strip()
    try:
        on = datetime.date.fromisoformat(said) if said else None
    except ValueError:
        raise ValueError(f'permission_on = "{said}": no date; write it as 2026-05-01') from None
    return Permission(
        permits=tuple(words), statement=statement, by=row.get("permission_by", ""), on=_given(on)
    ).papers()


def restated(rows: pa.Table, stated: Mapping[str, Permission]) -> pa.Table:
    """Rows whose permission is prose of an older version, with the present permission of their source (source →
    permission) in its place; the others as they are."""
    if not stated:
        return rows
    old = pc.and_(
        pc.and_(pc.not_equal(rows["permission"], ""), pc.equal(pc.list_value_length(rows["permits"]), 0)),
        pc.is_in(rows["source"], pa.array(list(stated), pa.string())),
    ).to_pylist()
    if not any(old):
        return rows
    papers = {source: permission.papers() for source, permission in stated.items()}
    sources = rows["source"].to_pylist()
    for name in ("permits", "permission", "permission_by", "permission_on"):
        column = rows[name].to_pylist()
        for row, is_old in enumerate(old):
            if is_old:
                column[row] = papers[sources[row]][name]
        field = rows.schema.field(name)
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(column, field.type))
    return rows
