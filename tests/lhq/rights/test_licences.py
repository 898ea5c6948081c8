"""Licences by address and id: ports keep their jurisdiction, retired ones are known, the Hub's list is the Hub's."""

from __future__ import annotations

import pytest
from huggingface_hub import DatasetCardData

from lhq.rights.licences import FLICKR, HUB_LICENCES, LICENCES, from_url


@pytest.mark.parametrize(
    ("url", "id", "canonical"),
    [
        ("https://creativecommons.org/licenses/by-sa/3.0/de/deed.de", "cc-by-sa-3.0-de", "by-sa/3.0/de/"),
        ("creativecommons.org/licenses/by/2.1/jp", "cc-by-2.1-jp", "by/2.1/jp/"),
        ("http://www.creativecommons.org/licenses/by/3.0/igo/", "cc-by-3.0-igo", "by/3.0/igo/"),
        ("//creativecommons.org/licenses/by-nc-sa/2.5/scotland/", "cc-by-nc-sa-2.5-scotland", "by-nc-sa/2.5/scotland/"),
        ("https://creativecommons.org/licenses/by-nd-nc/1.0/", "cc-by-nc-nd-1.0", "by-nd-nc/1.0/"),
        ("https://creativecommons.org/licenses/nd-nc/1.0/", "cc-nc-nd-1.0", "nd-nc/1.0/"),
        ("https://creativecommons.org/licenses/by-nd-nc/2.0/jp/", "cc-by-nc-nd-2.0-jp", "by-nc-nd/2.0/jp/"),
        ("https://creativecommons.org/licenses/sa/1.0", "cc-sa-1.0", "sa/1.0/"),
        ("https://creativecommons.org/licenses/by/4.0/deed.fr", "cc-by-4.0", "by/4.0/"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode.de", "cc-by-4.0", "by/4.0/"),
        ("HTTPS://CreativeCommons.org/Licenses/BY/2.0/?ref=openverse#x", "cc-by-2.0", "by/2.0/"),
    ],
)
def test_a_url_gives_its_licence(url: str, id: str, canonical: str) -> None:
    found = from_url(url)
    assert found is not None
    assert (found.id, found.url) == (id, f"https://creativecommons.org/licenses/{canonical}")
    assert LICENCES[id] == found == from_url(found.url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/creativecommons.org/licenses/by/4.0/",
        "https://creativecommons.org.evil.example/licenses/by/4.0/",
        "https://creativecommons.org/licenses/by/3.0/xx/",
        "https://creativecommons.org/licenses/sampling+/1.0/",
        "https://creativecommons.org/licenses/by/9.9/",
        "https://creativecommons.org/licenses/",
        "",
        "https://[",
    ],
)
def test_other_urls_give_no_licence(url: str) -> None:
    assert from_url(url) is None


def test_a_port_allows_what_its_licence_allows() -> None:
    port, plain = LICENCES["cc-by-nc-sa-3.0-de"], LICENCES["cc-by-nc-sa-3.0"]
    same = ("redistribute", "commercial", "derivatives", "attribution", "share_alike", "learning", "freedom", "version")
    assert [getattr(port, name) for name in same] == [getattr(plain, name) for name in same]
    assert (port.unported, port.hub, port.name) == (plain.id, "other", "CC BY-NC-SA 3.0 DE")
    assert plain.unported == plain.id
    assert "cc-by-sa-4.0-de" not in LICENCES


def test_no_known_restrictions_is_no_public_domain() -> None:
    assert {id for id, one in LICENCES.items() if one.public_domain} == {"cc0-1.0", "pdm-1.0", "us-gov"}


def test_a_card_names_only_what_the_hub_knows() -> None:
    # Those of the Hub's list that are Creative Commons', from its documentation; checked again before every push.
    assert len(HUB_LICENCES) == 16
    for id, one in LICENCES.items():
        assert one.hub == (id if id in HUB_LICENCES else "other")
    assert {LICENCES[id].hub for id in ("cc-by-sa-2.0", "cc-by-nd-3.0", "cc-by-1.0", "pdm-1.0")} == {"other"}
    assert DatasetCardData(license=LICENCES[FLICKR[4]].hub).license == "cc-by-2.0"
