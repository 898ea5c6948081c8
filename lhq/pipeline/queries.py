"""Text files → queries, one per line; `#` starts a comment, and the file's stem is their theme."""

from __future__ import annotations

from pathlib import Path

from lhq import nearest
from lhq.errors import ConfigError
from lhq.pipeline.places import LANDSCAPES, Places
from lhq.records import Query
from lhq.text_file import read_text

SHIPPED = "landscapes"
"""Stands for the 400 landscape queries that come with the package."""

_HINT = 'give a UTF-8 .txt file or a folder of them, relative to this file; a list; or "landscapes"'


def read(given: str | list[str], where: str, places: Places) -> tuple[Query, ...]:
    """Queries in file order, without duplicates after case and white-space folding.

    Args:
        given: a `.txt` file, a folder of them, "landscapes", or the queries themselves.
        where: what an error starts with: the pipeline file.

    Raises:
        ConfigError: a file can't be read, or there is no query.
    """
    if isinstance(given, list):
        found = [Query(text) for text in given]
    else:
        place = LANDSCAPES if given == SHIPPED else Path(places.place(given))
        files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
        found = []
        for file in files:
            try:
                lines = read_text(file).splitlines()
            except UnicodeError as error:
                raise ConfigError(f"{where}: queries = {given!r}: {file} {error}", hint="save it as UTF-8") from None
            except OSError as error:
                said = f"{where}: queries = {given!r}: {file}: {error.strerror}"
                raise ConfigError(said, hint=nearest.path(file, _HINT)) from None
            found += [Query(text, file.stem) for line in lines if (text := line.split("#")[0].strip())]
    unique = {" ".join(query.text.split()).casefold(): query for query in reversed(found) if query.text.strip()}
    if not unique:
        raise ConfigError(f"{where}: queries = {given!r} holds no query", hint="one query per line, # starts a comment")
    return tuple(reversed(unique.values()))
