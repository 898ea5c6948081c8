"""The user's deny list: a text file of authors, pages and domains whose photos are excluded.

# one entry per line
author Jane Doe
https://www.flickr.com/photos/janedoe/      (this page and all below it)
https://example.com/photo.php?id=7          (this page, with any other query parameters)
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
QueryPairs = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class DenyList:
    """The entries, normalised.

    `pages` are host and path and match everything below them. `pages_with_query` pair host and path, matched exactly,
    with the query parameters that an address must have. `domains` match their subdomains too.
    """

    authors: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    pages_with_query: frozenset[tuple[str, QueryPairs]] = frozenset()
    domains: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.authors) + len(self.pages) + len(self.pages_with_query) + len(self.domains)

    def matching_entry(self, authors: Iterable[str], addresses: Iterable[str]) -> str:
        """The first entry that one of a photo's authors or addresses matches, or ""."""
        if not self:
            return ""
        for author in authors:
            if author.strip() and _normalised(author) in self.authors:
                return f"author {author}"
        for address in addresses:
            host, page = _host_and_page(address)
            labels = host.split(".")
            for start in range(len(labels) - 1):
                if (domain := ".".join(labels[start:])) in self.domains:
                    return domain
            parts = page.split("/")
            for end in range(1, len(parts) + 1):
                if (above := "/".join(parts[:end])) in self.pages:
                    return above
            for page_of_entry, pairs in self.pages_with_query:
                if page_of_entry == page and pairs <= _query_pairs(address):
                    return f"{page}?{'&'.join('='.join(word) for word in sorted(pairs))}"
        return ""


def read(path: Path, where: str) -> DenyList:
    """Read a deny list from a file.

    Args:
        where: prefix of error messages, such as `a.toml [rights]`.

    Raises:
        ConfigError: the file can't be read, or a line is neither an author, a page nor a domain.
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
    authors, pages, pages_with_query, domains = set(), set(), set(), set()
    for number, line in enumerate(lines, 1):
        line = re.split(r"(?:^|\s)#", line)[0].strip()
        if not line:
            continue
        if "://" in line:
            if not (page := _host_and_page(line)[1]):
                raise ConfigError(f"{path}:{number}: {line!r} is no address", hint="write it as https://HOST/PAGE")
            if pairs := _query_pairs(line):
                pages_with_query.add((page, pairs))
            else:
                pages.add(page)
        elif match := _AUTHOR.fullmatch(line):
            authors.add(_normalised(match[1]))
        elif _DOMAIN.fullmatch(domain := _host(line).removeprefix("*.").removeprefix("www.")):
            domains.add(domain)
        else:
            raise ConfigError(
                f"{path}:{number}: {line!r} is no author, page or domain",
                hint='write "author NAME", the address of a page, or a domain',
            )
    return DenyList(frozenset(authors), frozenset(pages), frozenset(pages_with_query), frozenset(domains))


def _normalised(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _host(name: str) -> str:
    """Normalise a host name: lower case, no trailing dot, non-ASCII letters in IDNA encoding."""
    name = name.strip().rstrip(".").lower()
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _host_and_page(address: str) -> tuple[str, str]:
    """(host, host and path) of a URL, without scheme, port, query and trailing slash; ("", "") if it has no host."""
    try:
        parsed = urlsplit(address)
        host = _host(parsed.hostname or "")
    except ValueError:
        return "", ""
    if not host:
        return "", ""
    path = re.sub("/+", "/", unquote(parsed.path)).rstrip("/")
    return host, f"{host.removeprefix('www.')}{path}".casefold()


def _query_pairs(address: str) -> QueryPairs:
    """The query parameters of a URL as a set of pairs, without tracking parameters."""
    pairs = parse_qsl(urlsplit(address).query, keep_blank_values=True)
    return frozenset((name, value) for name, value in pairs if not _TRACKING.fullmatch(name))
