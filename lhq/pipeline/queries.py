"""Text files → queries: one a line, `#` starts a comment, the file's stem is their theme."""

from __future__ import annotations

from pathlib import Path

from lhq.errors import ConfigError
from lhq.records import Query


def read(given: str | list[str], where: str) -> tuple[Query, ...]:
    """Queries in file order, without duplicates after case and white-space folding.

    Args:
        given: a `.txt` file, a folder of them, or the queries themselves.
        where: what an error starts with: the pipeline file.

    Raises:
        ConfigError: a file can't be read, or there is no query.
    """
    if isinstance(given, list):
        found = [Query(text) for text in given]
    else:
        place = Path(given)
        files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
        found = []
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                said = f"{file} is not UTF-8 ({error.reason})" if isinstance(error, ValueError) else error.strerror
                raise ConfigError(
                    f"{where}: queries = {given!r}: {said}",
                    hint="give a UTF-8 .txt file, a folder of them (from where lhq is run), or a list",
                ) from None
            found += [Query(text, file.stem) for line in lines if (text := line.split("#")[0].strip())]
    unique = {" ".join(query.text.split()).casefold(): query for query in reversed(found) if query.text.strip()}
    if not unique:
        raise ConfigError(f"{where}: queries = {given!r} holds no query", hint="one query a line, # starts a comment")
    return tuple(reversed(unique.values()))
