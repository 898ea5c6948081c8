"""What the papers allow, and refusals that name the rows, their source and their licence."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lhq.errors import ConfigError, RightsRefused
from lhq.records import PAPERS, PHOTO_SCHEMA
from lhq.rights import rules
from lhq.rights.licences import LICENCES, Rights
from tests.lhq.making import RIGHTS, photo

_SCHEMA = pa.schema([PHOTO_SCHEMA.field(name) for name in PAPERS])


def rows(*given: dict[str, Any]) -> pa.Table:
    papers = [photo(b"", f"{n}", **one) for n, one in enumerate(given)]
    return pa.Table.from_pylist([{name: row[name] for name in PAPERS} for row in papers], _SCHEMA)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"licence": ""}, "have no licence"),
        ({"licence": "cc-by-9.9"}, "does not know"),
        ({"url": " "}, "have no url"),
        ({"sha256": ""}, "have no sha256"),
        ({"author": ""}, "no author"),
        ({"source": "pirates"}, "unknown source"),
        ({"author": " \u00a0"}, "no author"),
        ({"source": "unsplash", "licence": "unsplash"}, "machines may not learn"),
        ({"source": "unsplash", "licence": "unsplash", "permission": "training is fine"}, "allows nothing by itself"),
        ({"source": "folder", "licence": "all-rights-reserved"}, "machines may not learn"),
    ],
)
def test_rows_without_papers_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RightsRefused, match=said) as caught:
        rules.check_papers(rows({}, wrong, {}), RIGHTS)
    assert f"{wrong.get('source', 'flickr')}:1 (" in str(caught.value)
    assert "flickr:0" not in str(caught.value)


def test_rows_with_papers_pass() -> None:
    unsplash = {"source": "unsplash", "licence": "unsplash", "permission": "letter of 1 May", "permits": ["train"]}
    rules.check_papers(rows({}, unsplash, {"source": "folder", "licence": "own", "author": ""}), RIGHTS)


def test_redistribution_needs_licence_and_source() -> None:
    refused = rows(
        {"licence": "all-rights-reserved"},
        {"source": "unsplash", "licence": "unsplash", "permission": "letter", "permits": ["train"]},
        {"source": "unsplash", "licence": "unsplash", "permission": "publishing and redistribution are welcome"},
        {"licence": "cc-by-nc-nd-4.0"},
    )
    with pytest.raises(RightsRefused) as caught:
        rules.check_publishing(refused, RIGHTS)
    assert "2 of source unsplash under unsplash, 1 of source flickr under all-rights-reserved" in str(caught.value)
    assert RIGHTS["unsplash"].note in str(caught.value)
    assert "flickr:3" not in str(caught.value)
    allowed = {"source": "unsplash", "licence": "unsplash", "permission": "letter", "permits": ["redistribute"]}
    rules.check_publishing(rows({}, allowed, {"source": "folder", "licence": "own"}), RIGHTS)


def test_a_sources_terms_can_forbid_training_whatever_the_licence() -> None:
    closed = {"flickr": Rights("yes", "no", "non-commercial", "closed")}
    with pytest.raises(RightsRefused, match="closed"):
        rules.check_publishing(rows({}), closed)
    assert not rules.evaluate(rows({}), closed, rules.may_sell).any()


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["commercial-ok"], [0, 2, 3, 5, 6]),
        (["derivatives-ok"], [0, 1, 2, 5, 6]),
        (["public-domain"], [2]),
        (["cc-by-sa-3.0-de"], [6]),
        (["cc-by-sa-*"], [6]),
        (["commercial-ok", "derivatives-ok"], [0, 2, 5, 6]),
        (["cc0-1.0", "cc-by-2.0"], [0, 2]),
        (["cc-by-*"], [0, 1, 3, 6]),
        (["cc-by-*", "commercial-ok"], [0, 3, 6]),
        (["redistributable"], [0, 1, 2, 3, 5, 6]),
    ],
)
def test_subsets_select_rows(words: list[str], kept: list[int]) -> None:
    table = rows(
        {"licence": "cc-by-2.0"},
        {"licence": "cc-by-nc-2.0"},
        {"licence": "cc0-1.0"},
        {"licence": "cc-by-nd-2.0"},
        {"licence": "all-rights-reserved"},
        {"licence": "nkr"},  # no known restrictions: no claim that it is in the public domain
        {"licence": "cc-by-sa-3.0-de"},
    )
    assert rules.subset(table, RIGHTS, words).nonzero()[0].tolist() == kept


def test_an_unknown_subset_is_an_error() -> None:
    with pytest.raises(ConfigError, match='"comercial-ok" is neither'):
        rules.subset(rows({}), RIGHTS, ["comercial-ok"])


def test_a_permission_allows_only_what_it_lists() -> None:
    """Commercial use and adaptation must be listed separately; no permission overrides a source's terms."""
    forbids = LICENCES["cc-by-nc-nd-4.0"]
    open_terms = Rights("by-licence", "by-licence", "by-licence", "")
    closed = Rights("no", "no", "no", "")
    for ruling, word in ((rules.may_sell, "commercial"), (rules.may_adapt, "adapt")):
        assert not ruling(forbids, open_terms, {"train", "redistribute"})
        assert ruling(forbids, open_terms, {word})
        assert not ruling(forbids, closed, {word})
    assert rules.may_sell(LICENCES["cc-by-4.0"], open_terms, ())
    assert rules.may_adapt(LICENCES["cc-by-4.0"], closed, ()), "the licence says so itself"
