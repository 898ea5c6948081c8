"""The papers that a user states for imported photos: for all of them, or photo by photo in a table."""

from __future__ import annotations

import csv
import difflib
import io
import json
import logging
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhq.errors import InputError
from lhq.intake import RIGHTS_COLUMNS
from lhq.records import Candidate
from lhq.rights import permissions
from lhq.rights.licences import LICENCES
from lhq.text_file import read_text

log = logging.getLogger(__name__)

# Columns of a table of papers.
COLUMNS = (*RIGHTS_COLUMNS, "author_url", "url", "page_url", "title", "description", "tags", "taken_at")
_SHOWN = 5


@dataclass(frozen=True)
class Papers:
    """Papers of a collection: `given` for all photos, overridden by `table` (name → columns) photo by photo."""

    given: Mapping[str, str]
    table: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, source: str, collection: str, name: str) -> Candidate:
        """The candidate of one photo, with its papers.

        Raises:
            InputError: its licence is not stated, or not one that `lhq.rights.licences` knows.
        """
        row = {**self.given, **{key: value for key, value in self._row(name).items() if value.strip()}}
        place = f"{collection}/{percent_encoded(name)}"
        licence = row.get("licence", "")
        if licence not in LICENCES:
            raise InputError(
                f'{printable(name)}: licence "{licence}"' if licence else f"{printable(name)}: no licence",
                hint=f"state it: --licence, or a column of --papers; known: {', '.join(sorted(LICENCES))}",
            )
        try:
            permission = permissions.from_columns(row)
        except ValueError as error:
            raise InputError(f"{printable(name)}: {error}", hint="mend that row of --papers") from None
        return Candidate(
            source=source,
            source_id=place,
            url=row.get("url", "") or f"{source}:{place}",
            page_url=row.get("page_url", ""),
            author=row.get("author", "").strip(),
            author_url=row.get("author_url", ""),
            licence=licence,
            query=collection,
            title=row.get("title", ""),
            description=row.get("description", ""),
            tags=tuple(row.get("tags", "").split()),
            taken_at=row.get("taken_at", ""),
            attribution=row.get("attribution", ""),
            **permission,
        )

    def has(self, name: str) -> bool:
        """Whether the table has a row for a photo."""
        return bool(self._row(name))

    def _row(self, name: str) -> Mapping[str, str]:
        """A photo's row, by its name as it is, percent-encoded, with backslashes, or after `./`."""
        for known in (name, percent_encoded(name), name.replace("/", "\\"), f"./{name}"):
            if known in self.table:
                return self.table[known]
        return {}

    def check(self, names: Sequence[str]) -> None:
        """Check that the table and the collection have the same photos.

        Raises:
            InputError: rows that match no photo, or photos without a row; lists the first of each.
        """
        if not self.table:
            return
        without = [printable(name) for name in names if not self.has(name)]
        spelled = {
            form for name in names for form in (name, percent_encoded(name), name.replace("/", "\\"), f"./{name}")
        }
        unmatched = [printable(row) for row in self.table if row not in spelled]
        said = [
            f"{len(found):,} {what}: {', '.join(found[:_SHOWN])}{' …' if len(found) > _SHOWN else ''}"
            for found, what in ((unmatched, "rows of the table match no photo"), (without, "photos have no row"))
            if found
        ]
        if said:
            raise InputError(
                "; ".join(said),
                hint="mend the table's column file, or take them as they are: --allow-unmatched gives photos without a "
                "row the papers of --licence and --author",
            )


def percent_encoded(name: str) -> str:
    """Percent-encode a name's bytes, in whatever encoding they are, for use in an id."""
    return urllib.parse.quote(name.encode("utf-8", "surrogateescape"))


def printable(name: str) -> str:
    """Escape a name's undecodable bytes, so that terminals and JSON can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_papers(path: str) -> dict[str, dict[str, str]]:
    """Read a table of papers (CSV, TSV or JSON lines) with a column `file`: name → the other columns.

    Column names are case-insensitive. Columns that aren't in `COLUMNS` are ignored with a warning.

    Raises:
        InputError: it can't be read, has no column `file`, or a column whose name resembles a rights column's.
    """
    try:
        rows = _rows_of_papers(path)
        table: dict[str, dict[str, str]] = {}
        for row in rows:
            if None in row:
                raise InputError(f"{path}: a row has more cells than columns", hint="quote its cells")
            named = {str(key).strip().casefold(): str(value or "") for key, value in row.items()}
            name = named.pop("file")
            if name in table:
                raise InputError(f'{path}: "{name}" has two rows', hint="leave one of them")
            table[name] = named
    except KeyError:
        raise InputError(f'{path}: no column "file"', hint="it names the photo in its collection") from None
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read ({error})", hint="give CSV, TSV or JSON lines in UTF-8") from error
    _check_columns(path, {name for row in table.values() for name in row} - {*COLUMNS})
    return table


def _rows_of_papers(path: str) -> list[dict[Any, Any]]:
    file = io.StringIO(read_text(Path(path)), newline="")
    if path.endswith((".jsonl", ".ndjson")):
        return [json.loads(line) for line in file if line.strip()]
    head = file.readline()
    file.seek(0)
    return list(csv.DictReader(file, delimiter=max("\t;,", key=head.count), strict=True))


def _check_columns(path: str, unknown: set[str]) -> None:
    """Refuse misspelt names of rights columns: a licence in a column "license" must not be ignored."""
    for name in sorted(unknown):
        if near := difflib.get_close_matches(name, RIGHTS_COLUMNS, n=1, cutoff=0.75):
            raise InputError(f'{path}: column "{name}"', hint=f'did you mean "{near[0]}"? Else leave the column out')
    if unknown:
        log.warning("%s: passed over: columns %s; known: %s", path, ", ".join(sorted(unknown)), ", ".join(COLUMNS))
