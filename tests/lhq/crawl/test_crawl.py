"""The whole crawl on real sockets: what is kept, what is not and why, and exact sums."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from lhq import pipeline as way
from lhq.errors import StoreError
from lhq.records import PHOTO_SCHEMA
from lhq.store.shards import Shards
from lhq.store.tombstones import add as put_tombstones
from tests.lhq.bad_server import (
    Route,
    Server,
    Talk,
    answer,
    dripping,
    in_turn,
    redirect,
    stalling,
    truncated,
)
from tests.lhq.services import PERMISSION, crawl, kept, offer, photo, pipeline, search, serve, statuses


def test_a_crawl_keeps_photos_with_their_papers(tmp_path: Path) -> None:
    photos = {f"p{i}": photo(i) for i in range(45)}
    with Server() as server:
        serve(server, photos)
        path = pipeline(tmp_path, server, want=100)
        report = way.load(path).crawl()
        table = kept(tmp_path)
        assert (report.num_kept, report.num_new, report.exit_code) == (45, 45, 0)
        assert table.schema == PHOTO_SCHEMA
        rows = {row["source_id"]: row for row in table.to_pylist()}
        assert {name: row["image"] for name, row in rows.items()} == photos
        row = rows["p7"]
        assert row["sha256"] == hashlib.sha256(photos["p7"]).hexdigest()
        assert (row["id"], row["author"], row["licence"], row["permission"]) == (
            "unsplash:p7",
            "Author p7",
            "unsplash",
            PERMISSION.statement,
        )
        assert (row["width_px"], row["height_px"], row["format"], row["queries"]) == (64, 48, "jpeg", ["lake"])
        assert row["page_url"] == "https://unsplash.com/photos/p7?utm_source=lhq&utm_medium=referral"
        asked = Counter(server.paths())
        assert max(asked[f"/images/p{i}"] for i in range(45)) == 1
        assert all(asked[f"/unsplash/photos/p{i}/download"] == 1 for i in range(45)), "each use is reported once"
        assert asked["/unsplash/search/photos"] == 2

        again = way.load(path).crawl()
        assert (again.num_kept, again.num_new) == (45, 0)
        assert Counter(server.paths()) == asked, "a finished crawl asks nobody for anything"


def test_no_more_than_wanted(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(60)}, page_size=20)
        path = pipeline(tmp_path, server, want=25)
        assert way.load(path).crawl().num_kept == 25
        assert sum(path.startswith("/images/") for path in server.paths()) == 25
        assert way.load(path).crawl(want=30).num_new == 5
        assert sorted(Shards(str(tmp_path / "store"), "photos").numbers()) == [0, 1]


def test_one_photo_of_many_queries(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"both": photo(1)})
        shared, mine = offer(server, "both", "/images/both"), offer(server, "one", "/images/one")
        server.routes["/images/one"] = answer(photo(2))
        server.routes["/unsplash/search/photos"] = search({"lake": [shared], "hill": [shared, mine]})
        crawl(pipeline(tmp_path, server, want=10, queries=("lake", "hill")))
        rows = {row["source_id"]: row["queries"] for row in kept(tmp_path).to_pylist()}
        assert rows == {"both": ["lake", "hill"], "one": ["hill"]}
        assert server.paths().count("/images/both") == 1


BAD: dict[str, tuple[Route, str]] = {
    "cut": (truncated(photo(1), 500), "truncated"),
    "cut-and-lied": (answer(photo(1)[:-200]), "truncated"),
    "stall": (stalling(photo(1), 100), "timeout"),
    "drip": (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", bytes(9999)), "timeout"),
    "html": (answer(b"<html>sorry</html>", content_type="image/jpeg"), "not-an-image"),
    "svg": (answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not-an-image"),
    "gif": (answer(b"GIF89a" + bytes(99), content_type="image/jpeg"), "unsupported-type"),
    "nothing": (answer(b""), "empty"),
    "small": (answer(photo(1, 47, 200)), "too-small"),
    "bomb": (
        answer(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0" + bytes(99)),
        "corrupt-header",
    ),
    "gone": (answer(b"", 410), "http-410"),
    "missing": (answer(b"", 404), "http-404"),
    "forbidden": (answer(b"", 403), "http-403"),
    "broken": (answer(b"", 500), "http-500"),
    "opt-out": (answer(photo(1), x_robots_tag="noai"), "opt-out"),
    "large": (answer(bytes(70_000)), "too-large"),
    "loop": (redirect("/images/loop"), "redirects"),
    "inside": (redirect("http://127.0.0.9/"), "forbidden-address"),
    "metadata": (redirect("http://169.254.169.254/latest/"), "forbidden-address"),
    "away": (lambda talk: talk.hang_up(), "disconnected"),
}


def test_every_bad_photo_ends_with_its_reason_and_the_sums_are_exact(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {name: photo(1) for name in [*BAD, "good"]})
        for name, (route, _) in BAD.items():
            server.routes[f"/images/{name}"] = route
        path = pipeline(tmp_path, server, want=100, max_bytes=60_000, read_timeout_s=1.0, total_timeout_s=1.5)
        report = way.load(path).crawl()
        assert report.num_kept == 1
        assert statuses(path) == {
            "good": ("kept", ""),
            **{name: ("failed", reason) for name, (_, reason) in BAD.items()},
        }
        status = way.load(path).status()
        assert status.num_candidates == len(BAD) + 1 == status.num_kept + status.num_waiting + status.num_failed
        assert Counter(status.failed) == Counter(reason for _, reason in BAD.values())
        assert sum(status.sources["unsplash"].values()) == status.num_candidates
        # What can't change is asked once, what may pass as often as the file says.
        asked = Counter(server.paths())
        for name in ("missing", "gone", "html", "opt-out", "large", "small"):
            assert asked[f"/images/{name}"] == 1, name
        for name in ("broken", "cut", "nothing", "forbidden"):
            assert asked[f"/images/{name}"] == 3, name


def test_failures_that_pass_are_overcome(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(4)})
        good = server.routes["/images/p0"]
        server.routes["/images/p0"] = in_turn(answer(b"", 500), truncated(photo(0), 99), good)
        server.routes["/images/p1"] = in_turn(answer(b"", 429, retry_after="0"), good)
        path = pipeline(tmp_path, server, want=4)
        report = way.load(path).crawl()
        assert (report.num_kept, report.failures) == (4, {"http-500": 1, "truncated": 1, "throttled": 1})


def test_retry_failed_by_reason(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"a": photo(1), "b": photo(2), "c": photo(3)})
        good = dict(server.routes)
        server.routes["/images/a"], server.routes["/images/b"] = answer(b"", 404), answer(b"", 403)
        path = pipeline(tmp_path, server, want=3)
        assert way.load(path).crawl().num_kept == 1
        server.routes.update(good)
        assert way.load(path).crawl().num_kept == 1, "what failed for good does not return by itself"
        assert way.load(path).crawl(retry=("http-403",)).num_kept == 2
        assert statuses(path)["a"] == ("failed", "http-404")
        assert way.load(path).crawl(retry=("all",)).num_kept == 3


def test_a_storm_of_429_slows_but_loses_nothing(tmp_path: Path) -> None:
    lock, num = threading.Lock(), 0

    def stormy(talk: Talk) -> None:
        nonlocal num
        with lock:
            num += 1
            is_bad = num <= 8
        name = talk.request.path.split("/")[-1]
        talk.send(429, b"", {"Retry-After": "0"}) if is_bad else talk.send(200, photo(int(name[1:])))

    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(12)})
        for i in range(12):
            server.routes[f"/images/p{i}"] = stormy
        report = way.load(pipeline(tmp_path, server, want=12)).crawl()
        assert report.num_kept == 12
        assert report.failures == {"throttled": 8}


def test_two_crawls_on_one_store(tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(talk: Talk) -> None:
        started.set()
        go_on.wait(20)
        talk.send(200, photo(1))

    with Server() as server:
        serve(server, {"a": photo(1)})
        server.routes["/images/a"] = slow
        path = pipeline(tmp_path, server, want=1, read_timeout_s=20, total_timeout_s=20)
        first = threading.Thread(target=crawl, args=(path,))
        first.start()
        started.wait(20)
        with pytest.raises(StoreError, match=rf"process {os.getpid()}\b"):
            crawl(path)
        go_on.set()
        first.join()
    assert kept(tmp_path).num_rows == 1


def test_what_was_taken_down_is_not_fetched_again(tmp_path: Path) -> None:
    import datetime

    photos = {"a": photo(1), "b": photo(2), "c": photo(3)}
    with Server() as server:
        serve(server, photos)
        path = pipeline(tmp_path, server, want=3)
        sha256 = hashlib.sha256(photos["b"]).hexdigest()
        put_tombstones(
            str(tmp_path / "store"), {"unsplash:a": "", "other:9": sha256}, "asked", datetime.datetime.now(datetime.UTC)
        )
        assert way.load(path).crawl().num_kept == 1
        assert "/images/a" not in server.paths()
        assert statuses(path) == {"b": ("failed", "removed"), "c": ("kept", "")}


def test_a_reason_that_nothing_failed_for_is_said(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(3)})
        server.routes["/images/p1"] = answer(b"", 404)
        path = pipeline(tmp_path, server, want=3)
        crawl(path)
        notes = way.load(path).crawl(retry=("http-404", "timout")).notes
        assert notes == (
            "no photo failed for timout: lhq status shows the reasons there are",
            "1 failed candidates wait again",
        )


def test_nasty_files_served_as_photos(tmp_path: Path, shared: Path) -> None:
    files = [file for file in sorted((shared / "nasty").rglob("*")) if file.is_file()]
    with Server() as server:
        serve(server, {f"n{i}": file.read_bytes() for i, file in enumerate(files)})
        path = pipeline(tmp_path, server, want=10_000, max_attempts=1)
        path.write_text(path.read_text().replace("min_side_px = 48", "min_side_px = 1"))
        report = way.load(path).crawl()
        found = statuses(path)
        assert len(found) == len(files)
        assert Counter(status for status, _ in found.values()) == {
            "kept": report.num_kept,
            "failed": len(files) - report.num_kept,
        }
        assert all(reason for status, reason in found.values() if status == "failed")
        assert report.num_kept == kept(tmp_path).num_rows > 400
