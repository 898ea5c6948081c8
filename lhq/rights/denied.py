"""A file of authors, pages and domains → photos that are not taken: the user's own list of those who said no.

# one a line
author Jane Doe
https://www.flickr.com/photos/janedoe/      (this page and all below it)
https://example.com/photo.php?id=7          (this page, whatever else its query says)
example.org                                 (this domain and its subdomains)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from lhq import nearest
from lhq.errors import ConfigError
from lhq.text_file import read_text

_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}", re.IGNORECASE)
_AUTHOR = re.compile(r"author\s*[:\s]\s*(.+)", re.IGNORECASE)
_TRACKING = re.compile(r"utm_\w+|fbclid|gclid|igshid|mc_[ce]id|ref_src", re.IGNORECASE)
Queries = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Denied:
    """Who said no: `authors`, `pages` (host and path, of which all is meant), `queried` (pages that their query tells
    apart: what it must hold) and `domains`, each in one spelling."""

    authors: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    queried: frozenset[tuple[str, Queries]] = frozenset()
    domains: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.authors) + len(self.pages) + len(self.queried) + len(self.domains)

    def why(self, authors: Iterable[str], addresses: Iterable[str]) -> str:
        """The line that a photo meets, by its authors' names or any of its addresses; "" where none does."""
        if not self:
            return ""
        for author in authors:
            if author.strip() and _folded(author) in self.authors:
                return f"author {author}"
        for address in addresses:
            host, page = _place(address)
            labels = host.split(".")
            for start in range(len(labels) - 1):
                if (domain := ".".join(labels[start:])) in self.domains:
                    return domain
            parts = page.split("/")
            for end in range(1, len(parts) + 1):
                if (above := "/".join(parts[:end])) in self.pages:
                    return above
            for meant, words in self.queried:
                if meant == page and words <= _query(address):
                    return f"{page}?{'&'.join('='.join(word) for word in sorted(words))}"
        return ""


def read(path: Path, where: str) -> Denied:
    """The list of a file.

    Args:
        where: what an error starts with, e.g. `a.toml [rights]`.

    Raises:
        ConfigError: it can't be read, or a line is neither author, page nor domain.
    """
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        hint = nearest.path(path, "give a text file: an author, page or domain a line")
        raise ConfigError(f"{where}: deny = {str(path)!r}: no such file", hint=hint) from None
    except OSError as error:
        hint = "give a readable text file"
        raise ConfigError(f"{where}: deny = {str(path)!r}: {error.strerror}", hint=hint) from None
    except UnicodeError as error:
        raise ConfigError(f"{where}: deny = {str(path)!r} {error}", hint="save it as UTF-8") from None
    authors, pages, queried, domains = set(), set(), set(), set()
    for number, line in enumerate(lines, 1):
        line = re.split(r"(?:^|\s)#", line)[0].strip()
        if not line:
            continue
        if "://" in line:
            if not (page := _place(line)[1]):
                raise ConfigError(f"{path}:{number}: {line!r} is no address", hint="write it as https://HOST/PAGE")
            if words := _query(line):
                queried.add((page, words))
            else:
                pages.add(page)
        elif match := _AUTHOR.fullmatch(line):
            authors.add(_folded(match[1]))
        elif _DOMAIN.fullmatch(domain := _host(line).removeprefix("*.").removeprefix("www.")):
            domains.add(domain)
        else:
            raise ConfigError(
                f"{path}:{number}: {line!r} is no author, page or domain",
                hint='write "author NAME", the address of a page, or a domain',
            )
    return Denied(frozenset(authors), frozenset(pages), frozenset(queried), frozenset(domains))


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _host(name: str) -> str:
    """A host's name in one spelling: lower case, without the root's dot, letters beyond ASCII as DNS has them."""
    name = name.strip().rstrip(".").lower()
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _place(address: str) -> tuple[str, str]:
    """(host, host and path) of an address, whatever its scheme, port, query and last slash; ("", "") for none."""
    try:
        parsed = urlsplit(address)
        host = _host(parsed.hostname or "")
    except ValueError:
        return "", ""
    if not host:
        return "", ""
    path = re.sub("/+", "/", unquote(parsed.path)).rstrip("/")
    return host, f"{host.removeprefix('www.')}{path}".casefold()


def _query(address: str) -> Queries:
    """What the query of an address says, in any order; marks that only tell where a visitor came from say nothing."""
    pairs = parse_qsl(urlsplit(address).query, keep_blank_values=True)
    return frozenset((name, value) for name, value in pairs if not _TRACKING.fullmatch(name))
