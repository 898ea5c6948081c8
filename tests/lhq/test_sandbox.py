"""The services in a box, through their public doors: HTTP on loopback and flickrapi."""

from __future__ import annotations

from collections.abc import Iterator

import flickrapi
import pytest
import requests

from lhq.errors import UserError
from lhq.sandbox import Sandbox

KEY = {"Authorization": "Client-ID any"}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(port=0, num_scenes=300, seed=5) as box:
        yield box


@pytest.fixture
def flickr(box: Sandbox) -> flickrapi.FlickrAPI:
    return _flickr(box)


def _flickr(box: Sandbox, key: str = "any", format: str = "parsed-json") -> flickrapi.FlickrAPI:
    api = flickrapi.FlickrAPI(key, "secret", format=format)
    api.REST_URL = f"{box.url}/flickr/services/rest/"
    return api


def _search(box: Sandbox, **params: object) -> requests.Response:
    return requests.get(f"{box.url}/unsplash/search/photos", params=params, headers=KEY, timeout=10)


def test_unsplash_pages_hold_every_photo_once(box: Sandbox) -> None:
    first = _search(box, query="mountain lake", per_page=30)
    total, pages = first.json()["total"], first.json()["total_pages"]
    each = [_search(box, query="mountain lake", per_page=30, page=n).json()["results"] for n in range(1, pages + 2)]
    found = [photo["id"] for page in each for photo in page]
    assert len(found) == len(set(found)) == total > 30
    assert first.headers["X-Total"] == str(total)
    assert first.headers["X-Per-Page"] == "30"
    assert 'rel="next"' in first.headers["Link"]
    assert each[-1] == []
    assert _search(box, query="lake", per_page=99).headers["X-Per-Page"] == "30"


def test_flickr_says_the_same_in_json_and_xml(box: Sandbox) -> None:
    wish = {"text": "desert", "per_page": 20, "extras": "license,url_o,o_dims,tags,description"}
    rows = _flickr(box).photos.search(**wish)["photos"]["photo"]
    tree = _flickr(box, format="etree").photos.search(**wish).findall("./photos/photo")
    assert [row["id"] for row in rows] == [node.get("id") for node in tree]
    for row, node in zip(rows, tree, strict=True):
        assert row["title"] == node.get("title")
        assert row["license"] == node.get("license")
        assert str(row.get("width_o")) == str(node.get("width_o"))
        assert row["description"]["_content"] == (node.findtext("description") or "")


def test_port_in_use_is_one_clear_error(box: Sandbox) -> None:
    with pytest.raises(UserError, match=str(box.port)):
        Sandbox(port=box.port, num_scenes=2).__enter__()
