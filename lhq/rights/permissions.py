"""A rights holder's permission beyond the licence: a list of what it allows, and its wording as evidence.

Only the list counts: a keyword search can't be trusted with prose ("publishing is prohibited" contains "publish").
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq import nearest

PERMITS = {
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
    """What is allowed, as keys of `PERMITS`; nothing else is."""
    statement: str
    """What the rights holder wrote, verbatim; exported with every row."""
    by: str = ""
    """Who gave it."""
    on: datetime.date | None = None
    """When it was given."""

    @pydantic.field_validator("permits")
    @classmethod
    def _check_permits(cls, permits: tuple[str, ...]) -> tuple[str, ...]:
        for word in permits:
            check_permit(word)
        return tuple(word for word in PERMITS if word in permits)

    @pydantic.field_validator("statement")
    @classmethod
    def _check_statement(cls, statement: str) -> str:
        if not statement.strip():
            raise ValueError("a permission without its words is none: quote what was allowed")
        return statement.strip()

    @pydantic.field_validator("on")
    @classmethod
    def _check_date(cls, on: datetime.date | None) -> datetime.date | None:
        return _not_in_future(on)

    def papers(self) -> dict[str, Any]:
        """The permission as columns of a row's papers."""
        return {
            "permits": self.permits,
            "permission": self.statement,
            "permission_by": self.by.strip(),
            "permission_on": self.on.isoformat() if self.on else "",
        }


def check_permit(word: str) -> None:
    """Raise ValueError, with the nearest known word, unless `word` is a key of `PERMITS`."""
    if word not in PERMITS:
        hint = nearest.word(word, PERMITS, f"known words: {', '.join(PERMITS)}")
        raise ValueError(f'permits = "{word}": {hint}')


def _not_in_future(on: datetime.date | None) -> datetime.date | None:
    """Return the date of a permission; raise ValueError if it is in the future in every time zone."""
    if on and on > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
        raise ValueError(f"a permission counts once it was given, and {on.isoformat()} is still to come")
    return on


def from_setting(value: object) -> object:
    """Prepare the value of a `permission` key for validation; None if it is empty.

    Raises:
        ValueError: it is prose, or not a table; the message says what to write instead.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        raise ValueError(f"a sentence allows nothing by itself; list what it allows: permission = {EXAMPLE}")
    if value is not None and not isinstance(value, (Mapping, Permission)):
        raise ValueError(f"a table is meant, with the words that allow it: permission = {EXAMPLE}")
    return value


def from_columns(row: Mapping[str, str]) -> dict[str, Any]:
    """Parse the columns of a table of papers: `permits` (separated by spaces, commas or semicolons), `permission`,
    `permission_by`, `permission_on`.

    Returns:
        The same columns as `Permission.papers`, or {} if both `permits` and `permission` are empty.

    Raises:
        ValueError: only one of `permits` and `permission` is given, an unknown word, or an invalid date.
    """
    words = row.get("permits", "").replace(",", " ").replace(";", " ").split()
    statement = row.get("permission", "").strip()
    if not words and not statement:
        return {}
    if not words:
        raise ValueError(
            'column "permission" without "permits": a sentence allows nothing by itself; '
            f"list what it allows: {', '.join(PERMITS)}"
        )
    if not statement:
        raise ValueError('column "permits" without "permission": quote the words that allow it')
    for word in words:
        check_permit(word)
    given = row.get("permission_on", "").strip()
    try:
        on = datetime.date.fromisoformat(given) if given else None
    except ValueError:
        raise ValueError(f'permission_on = "{given}": no date; write it as 2026-05-01') from None
    return Permission(
        permits=tuple(words), statement=statement, by=row.get("permission_by", ""), on=_not_in_future(on)
    ).papers()


def replace_prose_permissions(rows: pa.Table, present: Mapping[str, Permission]) -> pa.Table:
    """Replace prose permissions of older versions by the present permission of their source; keep all other rows.

    Args:
        rows: with the columns `source`, `permits`, `permission`, `permission_by`, `permission_on`.
        present: source → permission of the pipeline file.
    """
    if not present:
        return rows
    old = pc.and_(
        pc.and_(pc.not_equal(rows["permission"], ""), pc.equal(pc.list_value_length(rows["permits"]), 0)),
        pc.is_in(rows["source"], pa.array(list(present), pa.string())),
    ).to_pylist()
    if not any(old):
        return rows
    papers = {source: permission.papers() for source, permission in present.items()}
    sources = rows["source"].to_pylist()
    for name in ("permits", "permission", "permission_by", "permission_on"):
        column = rows[name].to_pylist()
        for row, is_old in enumerate(old):
            if is_old:
                column[row] = papers[sources[row]][name]
        field = rows.schema.field(name)
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(column, field.type))
    return rows
