"""The deny list: every spelling of a name or an address matches its line, and nothing else does."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from lhq.errors import ConfigError
from lhq.rights.deny_list import DenyList, read

LINES = """\ufeffauthor Jané Doe   # asked us by mail
example.org
*.photos.example
https://www.flickr.com/photos/jane/
www.münchen.example
https://gallery.example/photo.php?id=7&lang=de&utm_source=mail
https://gallery.example/album.php?utm_source=mail
"""


@pytest.fixture
def denied(tmp_path: Path) -> DenyList:
    path = tmp_path / "deny.txt"
    path.write_text(LINES, encoding="utf-8")
    return read(path, "p.toml [rights]")


@pytest.mark.parametrize(
    ("author", "is_denied"),
    [
        ("jané doe", True),
        (unicodedata.normalize("NFD", "Jané Doe"), True),
        (" JANÉ\u00a0 DOE ", True),
        ("Jane Doe", False),
        ("Jané Doe Jr", False),
        ("", False),
    ],
)
def test_authors_match_in_any_spelling(denied: DenyList, author: str, is_denied: bool) -> None:
    assert bool(denied.matching_entry([author], [])) is is_denied


@pytest.mark.parametrize(
    ("address", "is_denied"),
    [
        ("https://example.org", True),
        ("http://img.EXAMPLE.org:8080/a.jpg", True),
        ("https://example.org./a.jpg", True),
        ("https://user:word@example.org/a.jpg", True),
        ("https://notexample.org/a.jpg", False),
        ("https://example.org.example.com/a.jpg", False),
        ("https://a.photos.example/a.jpg", True),
        ("https://xn--mnchen-3ya.example/a.jpg", True),
        ("https://münchen.example/a.jpg", True),
        ("http://flickr.com/photos/jane", True),
        ("https://www.flickr.com//photos/Jane/53512345678/?in=album", True),
        ("https://www.flickr.com/photos/j%61ne/5", True),
        ("https://www.flickr.com/photos/jane2/5", False),
        ("https://www.flickr.com/photos/", False),
        ("file:///example.org/a.jpg", False),
        ("http://gallery.example/photo.php?lang=de&id=7", True),
        ("https://www.gallery.example/photo.php?id=%37&lang=de&from=home#top", True),
        ("https://gallery.example/photo.php?id=8&lang=de", False),
        ("https://gallery.example/photo.php?id=77&lang=de", False),
        ("https://gallery.example/photo.php", False),
        ("https://gallery.example/other.php?id=7&lang=de", False),
        ("https://gallery.example/album.php?id=3", True),
        ("https://[broken", False),
    ],
)
def test_addresses_match_pages_and_domains(denied: DenyList, address: str, is_denied: bool) -> None:
    assert bool(denied.matching_entry([], [address])) is is_denied


@pytest.mark.parametrize("line", ["Jane Doe", "author", "example", "-.org", "https://", "http:///photo"])
def test_an_invalid_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "deny.txt"
    path.write_text(f"# mine\n\n{line}\n")
    with pytest.raises(ConfigError, match=r"deny.txt:3: "):
        read(path, "p.toml [rights]")
