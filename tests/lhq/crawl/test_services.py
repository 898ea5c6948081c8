"""The crawl against a service that is odd, down, slow, or refuses the key."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lhq import pipeline as way
from lhq.errors import KeyMissing, SourceError
from tests.lhq.bad_server import (
    Server,
    answer,
    as_json,
    in_turn,
)
from tests.lhq.services import crawl, offer, photo, pipeline, serve


def test_answers_of_the_service_that_are_odd(tmp_path: Path) -> None:
    """Missing fields, numbers as strings, nulls, things that are no objects: skipped and counted, never a crash."""
    with Server() as server:
        serve(server, {"good": photo(1)})
        good = offer(server, "good", "/images/good", width="64", height="48", tags=None, description=7)
        odd: list[object] = [
            None,
            7,
            "x",
            [],
            {},
            {**good, "id": None},
            {**good, "id": "x", "urls": {}},
            {**good, "id": "y", "user": None},
            {**good, "id": "z", "links": []},
            {**good, "id": "f", "urls": {"raw": "file:///etc/passwd"}},
            {**good, "id": "s", "width": "10", "height": 20},
            {**good, "id": "\x1b[2J\ud800bad", "urls": {"raw": 5}},
        ]
        server.routes["/unsplash/search/photos"] = as_json({"total": "13", "total_pages": "1", "results": [*odd, good]})
        path = pipeline(tmp_path, server, want=5)
        assert way.load(path).crawl().num_kept == 1
        status = way.load(path).status()
        assert (status.num_candidates, status.skipped) == (1, {"no papers": 11, "too small": 1})


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"results": 5}', b"null", b'{"results'])
def test_a_service_that_talks_nonsense_ends_the_crawl_with_one_error(tmp_path: Path, body: bytes) -> None:
    with Server({"/unsplash": answer(body)}) as server:
        report = way.load(pipeline(tmp_path, server, want=5)).crawl()
        assert [type(problem) for problem in report.problems] == [SourceError]
        assert report.exit_code == 1
        assert len(server.seen) <= 5


def test_an_outage_in_the_midst_is_waited_out(tmp_path: Path) -> None:
    with Server() as server:
        photos = {f"p{i}": photo(i) for i in range(60)}
        serve(server, photos)
        found = server.routes["/unsplash/search/photos"]
        down = answer(b"", 502)
        server.routes["/unsplash/search/photos"] = in_turn(found, *[down] * 7, found)
        report = way.load(pipeline(tmp_path, server, want=60, retry_delay_s=0.01)).crawl()
        assert (report.num_kept, report.problems) == (60, ())


def test_a_use_that_cannot_be_reported_holds_up_no_other(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(3)})
        server.routes["/unsplash/photos/p1"] = answer(b'{"errors": ["gone"]}', 404)
        path = pipeline(tmp_path, server, want=3)
        assert way.load(path).crawl().exit_code == 0
        asked = Counter(server.paths())
        assert {name: asked[f"/unsplash/photos/{name}/download"] for name in ("p0", "p1", "p2")} == {
            "p0": 1,
            "p1": 1,
            "p2": 1,
        }


def test_pages_that_repeat_for_ever_end(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"a": photo(1), "b": photo(2)})
        both = [offer(server, name, f"/images/{name}") for name in ("a", "b")]
        server.routes["/unsplash/search/photos"] = as_json({"total": 9999, "total_pages": 999, "results": both})
        path = pipeline(tmp_path, server, want=50)
        assert way.load(path).crawl().num_kept == 2
        assert server.paths().count("/unsplash/search/photos") == 4


def test_empty_pages_end(tmp_path: Path) -> None:
    with Server({"/unsplash": as_json({"total": 500, "total_pages": 50, "results": []})}) as server:
        with pytest.raises(SourceError, match="no source offered a photo"):
            crawl(pipeline(tmp_path, server, want=5))
        assert len(server.seen) == 1


def test_a_refused_key_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPLASH_ACCESS_KEY", "s3cret")
    with Server({"/unsplash": answer(b'{"errors": ["OAuth error: s3cret is invalid"]}', 401)}) as server:
        report = way.load(pipeline(tmp_path, server, want=5)).crawl()
        assert [type(problem) for problem in report.problems] == [KeyMissing]
        assert report.exit_code == 2
        assert "s3cret" not in "\n".join(report.lines())
        assert b"s3cret" not in b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())


def test_an_exhausted_quota_is_waited_out(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        found = server.routes["/unsplash/search/photos"]
        server.routes["/unsplash/search/photos"] = in_turn(answer(b"Rate Limit Exceeded", 403), found)
        path = pipeline(tmp_path, server, want=1)
        path.write_text(path.read_text().replace("min_side_px", "quota_window_s = 0.6\nmin_side_px"))
        assert way.load(path).crawl().num_kept == 1
        assert server.paths().count("/unsplash/search/photos") == 2
