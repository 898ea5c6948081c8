"""Somebody else's collection + the licence and author that the user states → photos to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lhq.intake import importing
from lhq.intake.papers import Papers, read_papers

Kind = Literal["lsun", "folder", "zip"]

_OPENERS = {"lsun": importing.lsun, "folder": importing.folder, "zip": importing.archive}


@dataclass(frozen=True, slots=True)
class Stated:
    """What the user states about a collection's photos.

    Args:
        licence, author: of all photos that are not in the table.
        table: path of a metadata table, one row per photo; see `lhq.intake.papers.read_papers`.
        allows_unmatched: rows that match no photo, and photos without a row, are accepted.
    """

    licence: str | None = None
    author: str | None = None
    table: str | None = None
    allows_unmatched: bool = False


def opened(kind: Kind, path: str, name: str | None, stated: Stated) -> importing.Collection:
    """The collection at `path`; `name` None: its file's.

    Raises:
        InputError: it or the table can't be read, or they don't match.
    """
    total, entries = _OPENERS[kind](path)
    table = read_papers(stated.table) if stated.table else {}
    papers = Papers({"licence": stated.licence or "", "author": stated.author or ""}, table)
    if table and not stated.allows_unmatched:
        _, listed = _OPENERS[kind](path)
        papers.check([entry for entry, _ in listed])
    return importing.Collection(kind, name or Path(path).resolve().stem, entries, papers, total)
