"""Unsplash: permission first, licence and author of every photo, the quota from the headers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lhq.config import HttpSettings
from lhq.errors import KeyMissing, SourceError
from lhq.http import Client
from lhq.records import Query
from lhq.sources.imgix import sized
from lhq.sources.unsplash import Unsplash, UnsplashSettings
from tests.lhq.bad_server import Server, Talk, answer, as_json, in_turn
from tests.lhq.services import PERMISSION, offer, search


def client(server: Server) -> Client:
    return Client(HttpSettings(allow_hosts=(server.netloc,), max_attempts=2, retry_delay_s=0.01))


def source(server: Server, **changes: object) -> Unsplash:
    settings = {"api": server.url("/unsplash"), "permission": PERMISSION, "min_side_px": 40, **changes}
    return Unsplash(UnsplashSettings.model_validate(settings), client(server))


def test_no_permission_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPLASH_ACCESS_KEY", "key")
    with pytest.raises(KeyMissing, match="states no permission"):
        Unsplash(UnsplashSettings(permission="  "), Client(HttpSettings()))
    handing_on = {"permits": ["redistribute"], "statement": "may be published"}
    with pytest.raises(KeyMissing, match="does not list train"):
        Unsplash(UnsplashSettings.model_validate({"permission": handing_on}), Client(HttpSettings()))


def test_no_key_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSPLASH_ACCESS_KEY", raising=False)
    with pytest.raises(KeyMissing, match="UNSPLASH_ACCESS_KEY is not set"):
        Unsplash(UnsplashSettings(permission=PERMISSION), Client(HttpSettings()))


def test_how_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPLASH_ACCESS_KEY", "key-1")
    with Server() as server:
        offers = [offer(server, f"p{i}", f"/images/{i}") for i in range(70)]
        server.routes["/unsplash/search/photos"] = search({"salt lake": offers})
        unsplash, cursor, found = source(server), None, []
        for _ in range(3):
            page = unsplash.search(Query("salt lake"), cursor)
            found += page.candidates
            cursor = page.next_cursor
        assert (cursor, page.total, [one.source_id for one in found]) == (None, 70, [f"p{i}" for i in range(70)])
        asked = server.seen[0]
        assert (asked.headers["authorization"], asked.headers["accept-version"]) == ("Client-ID key-1", "v1")
        assert asked.params["per_page"] == "30"
        assert (found[0].permission, found[0].permits) == (PERMISSION.statement, ("train",))


def test_a_use_is_reported_with_the_key_to_the_api_alone() -> None:
    with Server({"/unsplash/photos/": answer(b"{}")}) as server, Server() as other:
        unsplash = source(server)
        unsplash.report_use(server.url("/unsplash/photos/a/download?ixid=1"))
        assert [request.path for request in server.seen] == ["/unsplash/photos/a/download"]
        with pytest.raises(SourceError, match="not on the API's host"):
            unsplash.report_use(other.url("/steal"))
        assert other.num_connections == 0


def test_large_photos_are_asked_for_smaller_and_panoramas_keep_their_short_side() -> None:
    def size(width: int | None, height: int | None) -> dict[str, list[str]]:
        raw = "https://images.unsplash.com/photo-1?ixid=a&q=1"
        return parse_qs(urlsplit(sized(raw, width, height, max_side=4096, min_side=1024, quality=92)).query)

    assert size(4000, 3000) == {"ixid": ["a"], "q": ["92"], "fm": ["jpg"]}
    assert size(8000, 6000) == {"ixid": ["a"], "q": ["92"], "fm": ["jpg"], "w": ["4096"], "h": ["4096"], "fit": ["max"]}
    assert size(20000, 2000)["w"] == ["10240"]
    assert size(None, None)["w"] == ["4096"]


def test_the_last_call_of_the_hour_pauses_the_service() -> None:
    with Server() as server:
        found = search({"a": [offer(server, f"p{i}", "/x") for i in range(40)]})

        def last(talk: Talk) -> None:
            send = talk.send
            talk.send = lambda status, body=b"", headers=None: send(  # type: ignore[method-assign]
                status, body, {**(headers or {}), "X-Ratelimit-Remaining": "0"}
            )
            found(talk)

        server.routes["/unsplash"] = last
        unsplash = source(server)
        assert len(unsplash.search(Query("a"), None).candidates) == 30
        service = unsplash._client.service_of(server.url("/unsplash"))
        assert 3590 < service.wait_s(time.monotonic()) <= 3600
        assert service.pause_reason == "quota of 5000 calls"


def test_over_the_limit_is_waited_out_and_other_refusals_are_not() -> None:
    with Server() as server:
        good = search({"a": [offer(server, "p", "/x")]})
        server.routes["/unsplash"] = in_turn(answer(b"Rate Limit Exceeded", 403, x_ratelimit_limit="50"), good)
        assert len(source(server, quota_window_s=0.3).search(Query("a"), None).candidates) == 1
        server.routes["/unsplash"] = answer(b'{"errors": ["not for you"]}', 403)
        with pytest.raises(SourceError, match="not for you"):
            source(server).search(Query("a"), None)
        server.routes["/unsplash"] = answer(b"", 401)
        with pytest.raises(KeyMissing, match="401"):
            source(server).search(Query("a"), None)


def test_recorded_answers_of_the_service(shared: Path) -> None:
    for file in sorted((shared / "fixtures/api/unsplash").glob("*search_photos*.json")):
        words = file.read_text(encoding="utf-8")
        for mark, place in (("<API_URI>", "https://api.unsplash.com/"), ("<OAUTH_URI>", "https://unsplash.com/")):
            words = words.replace(mark, place)
        recorded = json.loads(words)
        with Server({"/unsplash": as_json(recorded["body"], recorded["status"]["code"])}) as server:
            page = source(server, min_side_px=1024).search(Query("dog"), None)
            assert len(page.candidates) + sum(num for _, num in page.skipped) == len(recorded["body"]["results"])
            assert page.candidates, file.name
            for one in page.candidates:
                assert one.url.startswith(("https://images.unsplash.com/", "https://unsplash.imgix.net/"))
                assert one.author
                assert one.report_use_url


def test_photos_of_unsplash_plus_are_not_under_the_unsplash_licence(shared: Path) -> None:
    recorded = json.loads((shared / "fixtures/api/unsplash/photos_random_30_2024-10.json").read_text(encoding="utf-8"))
    free = [item["id"] for item in recorded if "/images.unsplash.com/" in item["urls"]["raw"]]
    with Server({"/unsplash": as_json({"total": 30, "total_pages": 1, "results": recorded})}) as server:
        page = source(server, min_side_px=1).search(Query("x"), None)
        assert [one.source_id for one in page.candidates] == free
        assert dict(page.skipped) == {"Unsplash+ licence": len(recorded) - len(free)}
        assert 0 < len(free) < 30
