"""The hand-made queries: four hundred, no two alike, each theme with its share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

QUERIES = Path(__file__).parents[1] / "queries"


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [text for line in lines if (text := line.split("#")[0].strip())]


def test_there_are_exactly_four_hundred_different_queries() -> None:
    found = [query for path in sorted(QUERIES.glob("*.txt")) for query in _lines(path)]
    folded = Counter(" ".join(query.split()).casefold() for query in found)
    assert [query for query, times in folded.items() if times > 1] == []
    assert len(folded) == 400


def test_no_theme_outweighs_the_others() -> None:
    shares = {path.stem: len(_lines(path)) for path in QUERIES.glob("*.txt")}
    assert len(shares) >= 12
    assert min(shares.values()) >= 20
    assert max(shares.values()) <= 48


def test_every_query_is_a_plain_search_phrase() -> None:
    for path in QUERIES.glob("*.txt"):
        for query in _lines(path):
            assert 3 <= len(query) <= 40, query
            assert all(c.isalpha() or c in " '" for c in query), query


def test_every_continent_is_there() -> None:
    text = " ".join(query for path in QUERIES.glob("*.txt") for query in _lines(path))
    for places in (
        ("Alps", "Tuscany", "Lofoten"),
        ("Himalaya", "Gobi", "Fuji", "Mekong"),
        ("Sahara", "Serengeti", "Namib"),
        ("Rocky", "Palouse", "Alaska"),
        ("Andes", "Atacama", "Amazon"),
        ("Milford", "outback", "Tongariro"),
        ("Antarctic", "South Georgia"),
    ):
        assert all(place in text for place in places), places
