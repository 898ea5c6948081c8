"""Wikimedia Commons as it is in 2026: papers in templates, the ladder of widths, hosts that move, limits and ends."""

from __future__ import annotations

import json

import pytest

from lhq.config import HttpSettings, validate
from lhq.errors import ConfigError, KeyMissing, SourceError
from lhq.http import Client
from lhq.records import Candidate, Query
from lhq.sources.commons import LADDER, Commons, CommonsSettings
from lhq.sources.commons_papers import plain, read
from tests.lhq.bad_server import Server, answer, as_json, in_turn

API = "/w/api.php"
BY_SA = "https://creativecommons.org/licenses/by-sa/4.0"


def source(server: Server, **changes: object) -> Commons:
    http = HttpSettings(allow_hosts=(server.netloc,), contact="mailto:a@b.org", max_attempts=2, retry_delay_s=0.01)
    return Commons(CommonsSettings.model_validate({"api": server.url(API), **changes}), Client(http))


def said(**values: object) -> dict[str, object]:
    """`extmetadata` with these fields."""
    return {name: {"value": value, "source": "commons-desc-page"} for name, value in values.items()}


def file(number: int, **changes: object) -> dict[str, object]:
    info = {
        "url": f"https://upload.wikimedia.org/wikipedia/commons/a/ab/{number}.jpg",
        "thumburl": f"https://thumb.wikimedia.org/wikipedia/commons/thumb/a/ab/{number}.jpg/3840px-{number}.jpg",
        "thumbwidth": 3840,
        "thumbheight": 2560,
        "width": 3000,
        "height": 2000,
        "mime": "image/jpeg",
        "descriptionurl": f"https://commons.wikimedia.org/wiki/File:{number}.jpg",
        "extmetadata": said(LicenseUrl=BY_SA, Artist="Ann"),
        **changes,
    }
    return {"pageid": number, "title": f"File:{number}.jpg", "index": number, "imageinfo": [info]}


def only(found: dict[str, object], **changes: object) -> Candidate | dict[str, int]:
    """The candidate that one file becomes, or why it is none."""
    with Server({API: as_json({"query": {"pages": [found]}})}) as server:
        page = source(server, **changes).search(Query("lake"), None)
    return page.candidates[0] if page.candidates else dict(page.skipped)


# --- papers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "words", "address"),
    [
        (
            '<a href="//commons.wikimedia.org/wiki/User:Ann">Ann &amp; Bob</a>',
            "Ann & Bob",
            "https://commons.wikimedia.org/wiki/User:Ann",
        ),
        ("<style>.mw-parser-output .x{color:red}</style><p>Ann</p>", "Ann", ""),
        (
            '<div class="fn"><bdi>Unknown author</bdi></div><span style="display: none;">Unknown author</span>',
            "Unknown author",
            "",
        ),
        ('<span style="display:none"><i>a<br>b</i></span>Ann<script>x()</script>', "Ann", ""),
        ("<table><tr><td>Ann</td><td>Berlin</td></tr></table>", "Ann Berlin", ""),
        ("Ann<br>Bob<br/>Cy", "Ann Bob Cy", ""),
        ("a < b > c & d", "a < b > c & d", ""),
        ('<a href="javascript:alert(1)">Ann</a>', "Ann", ""),
        ('<a href="/wiki/User:Ann">Ann</a>', "Ann", "https://commons.wikimedia.org/wiki/User:Ann"),
        ("</div></span>Ann", "Ann", ""),
        ('<span style="display:none"><p>x<ul><li>y</span>Ann', "Ann", ""),
        ('<div style="display:none">x</p></div>Ann', "Ann", ""),
        ('<a name="top">Ann</a> <a href="//x.org/">Bob</a>', "Ann Bob", "https://x.org/"),
        ('<a href="/w/index.php?title=User:Ann&amp;redlink=1" class="new">Ann</a>', "Ann", ""),
        ("<b>Ann", "Ann", ""),
        ("", "", ""),
    ],
)
def test_markup_is_read_as_a_reader_sees_it(markup: str, words: str, address: str) -> None:
    assert plain(markup) == (words, address)


@pytest.mark.parametrize(
    ("fields", "author", "attribution"),
    [
        ({"Artist": "Ann", "Credit": "Own work"}, "Ann", ""),
        ({"Artist": "Ann", "Attribution": "Ann / example.org"}, "Ann", "Ann / example.org"),
        ({"Artist": "Ann", "Attribution": "Ann"}, "Ann", ""),
        ({"Attribution": "Ann / example.org"}, "Ann / example.org", "Ann / example.org"),
        ({"Artist": "<span>Own work</span>", "Attribution": "Ann"}, "Ann", "Ann"),
        ({"Artist": "Eigenes Werk"}, "", ""),
        ({"Artist": "Own work by uploader"}, "", ""),
        ({"Artist": {"_type": "lang", "de": "Änne", "en": "Ann"}}, "Ann", ""),
        ({"Artist": {"de": "Änne", "_type": "lang"}}, "Änne", ""),
        (
            {
                "Artist": 'No machine-readable author provided. <a href="//x.org">Ann</a> assumed (based on copyright '
                "claims).",
                "Credit": "No machine-readable source provided. Own work assumed (based on copyright claims).",
            },
            "Ann",
            "",
        ),
        ({"Credit": "Own work"}, "", ""),
        ({"Credit": "https://example.org"}, "", ""),
    ],
)
def test_the_author_is_who_made_it(fields: dict[str, object], author: str, attribution: str) -> None:
    found = read(said(**fields))
    assert (found.author, found.attribution) == (author, attribution)


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"LicenseUrl": BY_SA, "License": "pd"}, "cc-by-sa-4.0"),
        ({"License": "cc-by-sa-4.0"}, "cc-by-sa-4.0"),
        ({"LicenseShortName": "CC BY-SA 4.0"}, "cc-by-sa-4.0"),
        ({"LicenseShortName": "CC BY 3.0 de"}, "cc-by-3.0-de"),
        ({"LicenseShortName": "CC BY-SA 4.0 International"}, "cc-by-sa-4.0"),
        ({"License": "cc-by-sa-3.0-migrated"}, "cc-by-sa-3.0"),
        ({"License": "cc-by-sa-4.0,3.0,2.5,2.0,1.0"}, "cc-by-sa-4.0"),
        ({"LicenseShortName": "CC0 1.0 Universal"}, "cc0-1.0"),
        ({"LicenseShortName": "Public Domain Mark 1.0"}, "pdm-1.0"),
        ({"License": "pdm-owner"}, "pdm-1.0"),
        ({"LicenseShortName": "CC BY-SA"}, None),
        ({"License": "cc-by-2.0", "LicenseShortName": "CC BY-SA 4.0"}, "cc-by-2.0"),
        ({"License": "cc0"}, "cc0-1.0"),
        ({"LicenseShortName": "CC0"}, "cc0-1.0"),
        ({"License": "cc-zero"}, "cc0-1.0"),
        ({"License": "pd", "LicenseShortName": "Public domain"}, "pdm-1.0"),
        ({"LicenseShortName": "Public domain"}, "pdm-1.0"),
        ({"License": "PD-USGov-NASA"}, "us-gov"),
        ({"License": "PD-old-100"}, "pdm-1.0"),
        ({"License": "gfdl"}, None),
        ({"LicenseShortName": "Copyrighted free use"}, None),
        ({"LicenseUrl": "https://example.org/pd"}, None),
        ({}, None),
    ],
)
def test_the_licence_is_found_where_it_stands(fields: dict[str, str], licence: str | None) -> None:
    found = read(said(**fields)).licence
    assert (found.id if found else None) == licence


def test_what_is_free_of_attribution_needs_no_author() -> None:
    for metadata in (said(License="pd"), said(LicenseShortName="CC0")):
        found = only(file(1, extmetadata=metadata))
        assert isinstance(found, Candidate)
        assert found.author == ""
    assert only(file(1, extmetadata=said(LicenseUrl=BY_SA, Credit="Own work"))) == {"no papers": 1}


# --- files ------------------------------------------------------------------------------------------------------


def test_the_size_believed_is_the_files() -> None:
    """The API repeats the width that was asked for; the address names the one that is rendered."""
    thumb = "https://thumb.wikimedia.org/wikipedia/commons/thumb/a/ab/1.jpg/1920px-1.jpg"
    found = only(file(1, width=9000, height=6000, thumburl=thumb, thumbwidth=1500, thumbheight=1000), width_px=1500)
    assert isinstance(found, Candidate)
    assert (found.url, found.width_px, found.height_px) == (thumb, 1920, 1280)


def test_a_panorama_is_judged_by_its_original() -> None:
    found = only(file(1, width=12000, height=2000, thumbheight=640))
    assert isinstance(found, Candidate)
    assert (found.url.rsplit("/", 1)[-1], found.width_px, found.height_px) == ("1.jpg", 12000, 2000)
    assert only(file(1, width=12000, height=900, thumbheight=288)) == {"too small": 1}


@pytest.mark.parametrize(("asked", "step"), [(320, 330), (1024, 1280), (1920, 1920), (1921, 3840), (3840, 3840)])
def test_widths_are_those_of_the_ladder(asked: int, step: int) -> None:
    with Server({API: as_json({})}) as server:
        source(server, width_px=asked).search(Query("lake"), None)
        assert int(server.seen[0].params["iiurlwidth"]) == step
        assert step in LADDER


def test_a_width_that_is_not_rendered_is_refused() -> None:
    with pytest.raises(ConfigError, match="width_px = 5000"):
        validate(CommonsSettings, {"width_px": 5000}, "x.toml [source.commons]")


# --- manners ----------------------------------------------------------------------------------------------------


def test_manners_follow_the_host_that_the_api_names() -> None:
    moved = file(1, url="https://media.wikimedia.example/1.jpg")
    with Server({API: as_json({"query": {"pages": [moved]}})}) as server:
        commons = source(server)
        commons.search(Query("lake"), None)
        for host in ("upload.wikimedia.org", "thumb.wikimedia.org", "media.wikimedia.example"):
            found = commons._client.host_of(f"https://{host}/a.jpg")
            assert (found.num_slots, found.bytes_per_s) == (2, 25e6 / 8), host


def test_the_calls_are_paced_as_the_service_asks() -> None:
    with Server() as server:
        commons = source(server)
        service = commons._client.service_of(server.url(API))
        assert (service.num_slots, service.pace_per_s) == (1, 200 / 60)


def test_a_token_goes_to_the_api_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIMEDIA_ACCESS_TOKEN", "s3cret-token")
    bad = as_json({"error": {"code": "mwoauth-invalid-authorization", "info": "s3cret-token is not valid"}})
    with Server({API: in_turn(as_json({}), bad), "/": answer(b"x")}) as server:
        commons = source(server)
        commons.search(Query("lake"), None)
        assert server.seen[0].headers["authorization"] == "Bearer s3cret-token"
        commons._client.fetch(server.url("/a.jpg"))
        assert "authorization" not in server.seen[-1].headers
        with pytest.raises(KeyMissing, match="WIKIMEDIA_ACCESS_TOKEN") as caught:
            commons.search(Query("lake"), None)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("code", ["maxlag", "ratelimited"])
def test_patience_is_had_when_asked_for(code: str) -> None:
    wait = as_json({"error": {"code": code, "info": "Waiting"}}, retry_after="0")
    with Server({API: in_turn(wait, wait, as_json({}))}) as server:
        assert source(server).search(Query("lake"), None).candidates == ()
        assert len(server.seen) == 3


# --- the end ----------------------------------------------------------------------------------------------------


def test_ten_thousand_results_are_an_end() -> None:
    def page(offset: int) -> dict[str, object]:
        return {"continue": {"gsroffset": offset, "continue": "gsroffset||"}, "query": {"pages": [file(1)]}}

    too_far = {
        "code": "cirrussearch-offset-too-large",
        "info": "Up to 10000 search results are supported, but results starting at 10000 were requested.",
    }
    with Server({API: in_turn(as_json(page(9950)), as_json(page(10_000)), as_json({"error": too_far}))}) as server:
        commons = source(server)
        cursor = commons.search(Query("lake"), None).next_cursor
        assert cursor is not None
        assert json.loads(cursor)["gsroffset"] == 9950
        assert commons.search(Query("lake"), cursor).next_cursor is None
        beyond = commons.search(Query("lake"), json.dumps({"gsroffset": 10_000}))
        assert (beyond.candidates, beyond.next_cursor) == ((), None)


def test_another_refusal_is_told() -> None:
    with Server({API: as_json({"error": {"code": "badvalue", "info": "no such prop"}})}) as server:
        with pytest.raises(SourceError, match="no such prop"):
            source(server).search(Query("lake"), None)
