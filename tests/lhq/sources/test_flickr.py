"""Flickr through the real flickrapi: the result limit, licences and authors, sizes, errors."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lhq.config import HttpSettings, validate
from lhq.crawl.frontier import Frontier
from lhq.errors import ConfigError, KeyMissing, LhqError, SourceError
from lhq.http import Client
from lhq.pipeline.registry import SOURCES
from lhq.records import Candidate, Query
from lhq.sandbox import Sandbox
from lhq.sources import coordinates
from lhq.sources.flickr import EXTRAS, FIRST_UPLOAD, PAGE_SIZE, WALL, Flickr, FlickrSettings
from tests.lhq.bad_server import Route, Server, Talk, answer, as_json

REST = "/services/rest/"
QUERY = Query("mountain lake")


def source(server: Server, **changes: object) -> Flickr:
    client = Client(HttpSettings(allow_hosts=(server.netloc,), max_attempts=2, retry_delay_s=0.01))
    settings = {"api": server.url(REST), "calls_per_hour": 1e9, "min_side_px": 500, **changes}
    found: Flickr = SOURCES.load("flickr")(FlickrSettings.model_validate(settings), client)
    return found


def item(number: int, **changes: object) -> dict[str, object]:
    """One search result, with sizes as numbers or as strings as the service likes it."""
    return {
        "id": str(number),
        "owner": "1@N01",
        "title": f"Photo {number}",
        "license": "4",
        "ownername": "Ann",
        "pathalias": "ann",
        "tags": "lake snow",
        "media": "photo",
        "datetaken": "2020-05-01 10:00:00",
        "description": {"_content": "A <b>lake</b> &amp; snow"},
        "dateupload": "1588327200",
        "url_l": f"https://live.staticflickr.com/1/{number}_a_b.jpg",
        "width_l": 1024,
        "height_l": "683",
        "url_k": f"https://live.staticflickr.com/1/{number}_k_k.jpg",
        "width_k": "2048",
        "height_k": 1365,
        "url_o": f"https://live.staticflickr.com/1/{number}_o_o.jpg",
        "width_o": 6000,
        "height_o": 4000,
        **changes,
    }


def found(items: list[object], **changes: object) -> Route:
    photos = {"page": 1, "pages": 1, "perpage": 500, "total": str(len(items)), "photo": items, **changes}
    return as_json({"photos": photos, "stat": "ok"})


def walk(flickr: Flickr, query: Query = QUERY) -> list[Candidate]:
    candidates: list[Candidate] = []
    cursor = None
    for _ in range(500):
        page = flickr.search(query, cursor)
        candidates += page.candidates
        cursor = page.next_cursor
        if cursor is None:
            return candidates
    raise AssertionError("it does not end")


def test_a_search_asks_for_what_papers_need() -> None:
    with Server({REST: found([item(7)])}) as server:
        (one,) = source(server).search(QUERY, None).candidates
        asked = server.seen[0]
        assert asked.method == "POST"
        assert {name: asked.params[name] for name in ("method", "text", "license", "media", "extras", "per_page")} == {
            "method": "flickr.photos.search",
            "text": "mountain lake",
            "license": "2,4,8,9,10",
            "media": "photos",
            "extras": EXTRAS,
            "per_page": "500",
        }
        assert one == Candidate(
            source="flickr",
            source_id="7",
            url="https://live.staticflickr.com/1/7_o_o.jpg",
            page_url="https://www.flickr.com/photos/ann/7/",
            author="Ann",
            author_url="https://www.flickr.com/people/ann/",
            licence="cc-by-2.0",
            query="mountain lake",
            width_px=6000,
            height_px=4000,
            title="Photo 7",
            description="A lake & snow",
            tags=("lake", "snow"),
            taken_at="2020-05-01 10:00:00",
        )


def test_the_size_is_taken_from_the_answer() -> None:
    with Server() as server:
        for longest, expected in ((1000, "7_a_b"), (2048, "7_k_k"), (2049, "7_o_o"), (9000, "7_o_o")):
            server.routes[REST] = found([item(7)])
            (one,) = source(server, max_side_px=longest).search(QUERY, None).candidates
            assert expected in one.url, longest


def test_offers_without_papers_are_counted_not_taken() -> None:
    odd: list[object] = [
        None,
        5,
        {},
        item(1, id="../x"),
        item(2, owner=None),
        item(3, license=None),
        item(4, license="99"),
        item(5, license="0"),
        item(6, media="video"),
        item(7, width_o=None, width_k=100, width_l="x"),
        item(8),
    ]
    with Server({REST: found(odd)}) as server:
        page = source(server).search(QUERY, None)
        assert [one.source_id for one in page.candidates] == ["8"]
        assert dict(page.skipped) == {
            "no papers": 6,
            "id is no number": 1,
            "licence": 1,
            "not a photo": 1,
            "too small": 1,
        }


def test_the_wall_is_passed_by_splitting_the_upload_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    """900 photos bunched in a few days; this service shows no more than the first 400 of any search, 50 a page."""
    monkeypatch.setattr("lhq.sources.flickr.WALL", 400)
    monkeypatch.setattr("lhq.sources.flickr.PAGE_SIZE", 50)
    assert WALL == 4000
    uploads = sorted(FIRST_UPLOAD + 10**8 + (i**2 * 370) % 10**6 for i in range(900))

    def route(talk: Talk) -> None:
        params = talk.request.params
        low, high, page = int(params["min_upload_date"]), int(params["max_upload_date"]), int(params["page"])
        hits = [i for i, at in enumerate(uploads) if low <= at <= high]
        shown = hits[:400][(page - 1) * 50 : page * 50]
        body = {"page": page, "total": len(hits) if page % 2 else str(len(hits)), "photo": [item(i) for i in shown]}
        talk.send(200, json.dumps({"photos": body, "stat": "ok"}).encode())

    with Server({REST: route}) as server:
        ids = [int(one.source_id) for one in walk(source(server))]
        assert set(ids) == set(range(900))
        assert len(server.seen) < 150


def crawled(flickr: Flickr, folder: Path) -> tuple[set[str], int]:
    """(ids, pages) of one query, walked as a crawl walks it: the frontier decides when it ends."""
    frontier = Frontier(folder / "frontier.sqlite")
    frontier.add_queries("flickr", [QUERY], 10**6)
    num_pages = 0
    while (asked := frontier.next_query("flickr", frozenset({QUERY.text}))) is not None:
        page = flickr.search(asked.query, asked.cursor)
        frontier.add_page(asked, page, [(one, "h:443") for one in page.candidates])
        num_pages += 1
    ids = {each.id for each in frontier.listing((), (), ())}
    frontier.close()
    return ids, num_pages


ORDERS = {
    "newest": lambda number: -number,
    "oldest": lambda number: number,
    "relevance": lambda number: number * 7919 % 9001,
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_all_that_a_stable_order_offers_is_reached(order: Callable[[int], int], tmp_path: Path) -> None:
    """9,000 photos behind the wall of 4,000: the parts of a split repeat what was offered before they bring more."""
    uploads = [FIRST_UPLOAD + 10**8 + number * 40 for number in range(9000)]
    ranked = sorted(range(9000), key=order)

    def route(talk: Talk) -> None:
        params = talk.request.params
        low, high, page = int(params["min_upload_date"]), int(params["max_upload_date"]), int(params["page"])
        hits = [number for number in ranked if low <= uploads[number] <= high]
        page = min(page, max(1, -(-min(len(hits), WALL) // PAGE_SIZE)))  # beyond the wall the last page comes again
        shown = hits[:WALL][(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        body = {"page": page, "total": len(hits), "photo": [item(number) for number in shown]}
        talk.send(200, json.dumps({"photos": body, "stat": "ok"}).encode())

    with Server({REST: route}) as server:
        ids, num_pages = crawled(source(server), tmp_path)
    assert ids == {f"flickr:{number}" for number in range(9000)}
    assert num_pages < 80


@pytest.fixture
def low_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the service's limits: 400 photos of a search, 50 a page."""
    monkeypatch.setattr("lhq.sources.flickr.WALL", WALL // 10)
    monkeypatch.setattr("lhq.sources.flickr.PAGE_SIZE", PAGE_SIZE // 10)


def counting(uploads: list[int], per_page: int, total: Callable[[int, int], object]) -> Route:
    """A service that shows the first 400 of each search, beyond them the last page again; `total` says what it says of
    (how many there are, page)."""
    ranked = sorted(range(len(uploads)), key=lambda number: number * 7919 % 10007)

    def route(talk: Talk) -> None:
        params = talk.request.params
        low, high, page = int(params["min_upload_date"]), int(params["max_upload_date"]), int(params["page"])
        hits = [number for number in ranked if low <= uploads[number] <= high]
        page = min(page, max(1, -(-min(len(hits), WALL // 10) // per_page)))
        shown = hits[: WALL // 10][(page - 1) * per_page : page * per_page]
        body = {"total": total(len(hits), page), "perpage": per_page, "photo": [item(number) for number in shown]}
        talk.send(200, json.dumps({"photos": body, "stat": "ok"}).encode())

    return route


ODD = {
    "totals that shrink": (900, 50, lambda total, page: max(0, total - 30 * page)),
    "a total that forgets": (300, 50, lambda total, page: total if page < 3 else 90),
    "no total": (900, 50, lambda total, page: None),
    "short pages": (460, 25, lambda total, page: str(total)),
    "one too many": (401, 50, lambda total, page: total),
}


@pytest.mark.usefixtures("low_wall")
@pytest.mark.parametrize(("num", "per_page", "total"), ODD.values(), ids=ODD)
def test_a_service_that_counts_oddly_is_walked_to_its_end(
    num: int, per_page: int, total: Callable[[int, int], object], tmp_path: Path
) -> None:
    uploads = [FIRST_UPLOAD + 10**8 + number * 400 for number in range(num)]
    with Server({REST: counting(uploads, per_page, total)}) as server:
        ids, num_pages = crawled(source(server, calls_per_hour=1e9), tmp_path)
    assert ids == {f"flickr:{number}" for number in range(num)}
    assert num_pages < 200


@pytest.mark.usefixtures("low_wall")
def test_more_photos_of_one_second_than_are_shown_end(tmp_path: Path) -> None:
    """A second can't be split: as many of it come as are shown, and all of every other."""
    uploads = [FIRST_UPLOAD + 10**8] * 1200 + [FIRST_UPLOAD + 10**8 + 9999 * number for number in range(1, 90)]
    with Server({REST: counting(uploads, 50, lambda total, page: total)}) as server:
        ids, num_pages = crawled(source(server, calls_per_hour=1e9), tmp_path)
    assert ids >= {f"flickr:{number}" for number in range(1200, len(uploads))}
    assert WALL // 10 <= len([id for id in ids if int(id.split(":")[1]) < 1200]) < 420
    assert num_pages < 100


def test_a_service_that_repeats_itself_for_ever_ends(tmp_path: Path) -> None:
    with Server({REST: found([item(number) for number in range(20)], total=10**6)}) as server:
        ids, num_pages = crawled(source(server), tmp_path)
    assert len(ids) == 20
    assert num_pages <= 101


@pytest.mark.parametrize(
    ("route", "kind", "words"),
    [
        (as_json({"stat": "fail", "code": 100, "message": "Invalid API Key"}), KeyMissing, "key"),
        (as_json({"stat": "fail", "code": "98", "message": "Login failed"}), KeyMissing, "key"),
        (as_json({"stat": "fail", "code": 105, "message": "Service currently unavailable"}), SourceError, "105"),
        (as_json({"stat": "fail", "code": 18, "message": "Bad\x1b[31m API call"}), SourceError, r"Bad\\x1b"),
        (as_json({"stat": "fail"}), SourceError, "can't be read"),
        (as_json({"stat": "ok"}), SourceError, "no photos"),
        (as_json({"stat": "ok", "photos": {"total": 5}}), SourceError, "no list"),
        (as_json([]), SourceError, "can't be read"),
        (answer(b"<html>503</html>"), SourceError, "can't be read"),
        (answer(b"\xff\xfe"), SourceError, "can't be read"),
        (answer(b"no", 401), KeyMissing, "401"),
        (answer(b"no", 403), SourceError, "403"),
        (answer(b"", 500), SourceError, "500"),
        (lambda talk: talk.hang_up(), SourceError, "connection lost"),
    ],
)
def test_every_refusal_is_one_error(route: Route, kind: type[LhqError], words: str) -> None:
    with Server({REST: route}) as server:
        with pytest.raises(kind, match=words):
            source(server).search(QUERY, None)


def test_key_and_secret_are_needed_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("FLICKR_API_KEY", raising=False)
    monkeypatch.setenv("FLICKR_API_SECRET", "hush-hush")
    with pytest.raises(KeyMissing, match="FLICKR_API_KEY not set"):
        Flickr(FlickrSettings(), Client(HttpSettings()))
    monkeypatch.setenv("FLICKR_API_KEY", "abc-key")
    caplog.set_level(logging.INFO)
    with Server({REST: answer(b"abc-key and hush-hush are wrong", 401)}) as server:
        with pytest.raises(KeyMissing) as caught:
            source(server).search(QUERY, None)
        assert "oauth_consumer_key" in server.seen[0].headers["authorization"]
        assert "abc-key" in server.seen[0].headers["authorization"]
        assert not {"abc-key", "hush-hush"} & set(str(caught.value).replace("***", " ").split())
        assert "abc-key" not in caplog.text
        assert "hush-hush" not in caplog.text


def test_the_hourly_limit_is_the_services_pace() -> None:
    with Server({REST: found([item(7)])}) as server:
        flickr = source(server, calls_per_hour=3600 * 4)
        began = time.monotonic()
        for _ in range(3):
            flickr.search(QUERY, None)
        assert time.monotonic() - began >= 0.5


def test_unknown_licences_are_refused() -> None:
    with pytest.raises(ConfigError, match="cc-by-9"):
        validate(FlickrSettings, {"licences": ["cc-by-9.0"]}, "x.toml [source.flickr]")


def test_recorded_answers_of_the_service(shared: Path) -> None:
    for name, skipped in (("photos.search.5_photos_2024.json", 5), ("photos.search.url_m_2019.json", 2)):
        with Server({REST: answer((shared / "fixtures/api/flickr" / name).read_bytes())}) as server:
            page = source(server).search(QUERY, None)
            assert (page.candidates, dict(page.skipped)) == ((), {"no papers": skipped})
            assert page.total in {112301, 15849}
    with Server({REST: answer((shared / "fixtures/api/flickr/error_invalid_key.json").read_bytes())}) as server:
        with pytest.raises(KeyMissing, match="Invalid API Key"):
            source(server).search(QUERY, None)


def test_the_sandbox_is_understood() -> None:
    with Sandbox(port=0, num_scenes=60) as box:
        client = Client(HttpSettings(allow_hosts=(box.url.split("://")[1],)))
        flickr = Flickr(FlickrSettings(api=f"{box.url}/flickr/services/rest/", calls_per_hour=1e9), client)
        candidates = walk(flickr, Query("lake"))
        assert len(candidates) >= 3
        assert {one.licence for one in candidates} <= set(FlickrSettings().licences)


@pytest.mark.parametrize(
    ("north", "east", "expected"),
    [
        ("46.5", 8, (46.5, 8.0)),
        (0, "0", (None, None)),
        ("0", 8.5, (0.0, 8.5)),
        ("91", "8", (None, None)),
        ("", None, (None, None)),
        ("nan", "1", (None, None)),
    ],
)
def test_coordinates_of_services(north: object, east: object, expected: tuple[float | None, float | None]) -> None:
    assert tuple(coordinates(north, east).values()) == expected
