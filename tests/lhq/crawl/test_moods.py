"""Hosts over hours: a page that is always throttled, pictures that say gone, a clock set back."""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from pathlib import Path

import pytest

from lhq import pipeline as way
from lhq.crawl.placeholders import says_gone
from lhq.http import Hosts
from lhq.store import tombstones
from tests.lhq.bad_server import Server, answer, client, in_turn, redirect, refusal
from tests.lhq.services import kept, photo, pipeline, serve, statuses

PHOTO = photo(99)


def test_photos_that_are_always_throttled_hold_up_nobody(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(6)})
        good = dict(server.routes)
        server.routes["/images/p1"] = answer(b"", 429)
        server.routes["/images/p4"] = answer(b"", 429)
        file = pipeline(tmp_path, server, want=6)
        report = way.load(file).crawl()
        assert (report.num_kept, report.exit_code) == (4, 0)
        found = statuses(file)
        assert {found["p1"], found["p4"]} == {("failed", "throttled")}
        server.routes.update(good)
        assert way.load(file).crawl().num_kept == 6, "the next run asks for them again"


def test_a_page_throttled_for_its_own_sake_does_not_slow_its_host() -> None:
    with Server({"/": answer(PHOTO), "/bad": answer(b"", 429, retry_after="0")}) as server:
        found = client(server)
        host = found.host_of(server.url())
        refusal(found, server.url("/bad"))
        slowed = host.pace_per_s
        for _ in range(3):
            found.fetch(server.url("/a"))
            refusal(found, server.url("/bad"))
        assert host.pace_per_s == slowed
        assert found.num_page_throttles(server.url("/bad")) == 3


def test_a_line_when_a_host_begins_to_rest_and_one_when_it_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server() as server:
        serve(server, {"p0": photo(0), "p1": photo(1)})
        server.routes["/images/p0"] = in_turn(answer(b"", 429, retry_after="3"), server.routes["/images/p0"])
        with caplog.at_level(logging.INFO, "lhq.crawl.hosts"):
            assert way.load(pipeline(tmp_path, server, want=2)).crawl().num_kept == 2
    said = [record.getMessage() for record in caplog.records if record.name == "lhq.crawl.hosts"]
    host = server.url().split("/")[2]
    assert len(said) == 2, said
    assert re.fullmatch(rf"{host} rests [123] s \(.*429.*\)", said[0]), said
    assert said[1] == f"{host} is asked again"


def test_a_host_that_throttles_everybody_is_in_a_mood() -> None:
    hosts = Hosts(num_slots=4, pace_per_s=64)
    host = hosts["a"]
    for _ in range(3):
        for page in ("x", "y", "z"):
            hosts.throttled(host, time.monotonic(), 0.0, 429, page)
    assert [hosts.num_page_throttles(host, page) for page in ("x", "y", "z")] == [0, 0, 0]
    assert host.pace_per_s == 64 / 2**9


def test_a_redirect_carries_the_manners_along() -> None:
    with Server({"/": answer(PHOTO)}) as other, Server({"/": redirect("")}) as server:
        server.routes["/"] = redirect(other.url("/b"))
        found = client(server, other)
        found.limit(server.url(), num_slots=2, bytes_per_s=1e9)
        found.fetch(server.url("/a"))
        host = found.host_of(other.url())
        assert (host.num_slots, host.bytes_per_s) == (2, 1e9)


def test_a_clock_that_was_set_back_delays_nothing(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"p0": photo(0)})
        file = pipeline(tmp_path, server, want=1, max_attempts=2, retry_delay_s=0.01)
        server.routes["/images/p0"] = answer(b"", 500)
        way.load(file).crawl()
        with sqlite3.connect(tmp_path / "store" / "frontier.sqlite") as db:
            db.execute("UPDATE candidates SET status = 'waiting', next_at = ?", (time.time() + 10**7,))
        db.close()
        server.routes["/images/p0"] = answer(photo(0))
        assert way.load(file).crawl().num_kept == 1


# --- pictures that say gone -------------------------------------------------------------------------------------


def test_one_picture_under_many_ids_is_no_photo(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(10)})
        for i in (1, 2, 4, 7):
            server.routes[f"/images/p{i}"] = answer(PHOTO)
        file = pipeline(tmp_path, server, want=9)
        report = way.load(file).crawl()
        assert report.num_kept == 6
        found = statuses(file)
        assert {found[f"p{i}"] for i in (1, 2, 4, 7)} == {("failed", "placeholder")}
        assert kept(tmp_path)["image"].to_pylist().count(PHOTO) == 0
        status = way.load(file).status()
        assert (status.num_kept, status.failed) == (6, {"placeholder": 4})
        # It is remembered: under a new id it is known at once, and the old ids are not kept when asked for again.
        serve(server, {f"p{i}": photo(i) for i in range(10, 12)}, query="hill")
        server.routes["/images/p10"] = answer(PHOTO)
        file = pipeline(tmp_path, server, want=9, queries=["hill"])
        assert way.load(file).crawl(retry=("placeholder",)).num_kept == 7
        found = statuses(file)
        assert {found[f"p{i}"][0] for i in (1, 2, 4, 7, 10)} == {"failed"}
        assert found["p11"] == ("kept", "")


def test_a_placeholder_in_a_sealed_shard_is_hidden_from_every_export(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"p0": PHOTO, "p1": PHOTO})
        file = pipeline(tmp_path, server, want=2)
        assert way.load(file).crawl().num_kept == 2, "a photo that was uploaded twice is a photo"
        serve(server, {"p0": PHOTO, "p1": PHOTO, "p2": PHOTO, "p3": photo(3)}, query="hill")
        file = pipeline(tmp_path, server, want=3, queries=["hill"])
        assert way.load(file).crawl().num_kept == 1
        assert tombstones.removed_ids(str(tmp_path / "store")) >= {"unsplash:p0", "unsplash:p1"}


@pytest.mark.parametrize(
    "name",
    [
        "photo_unavailable.gif",
        "photo_unavailable_l.png",
        "photo-not-available.jpg",
        "image_unavailable.png",
        "removed.png",
        "image-removed.jpg",
        "not_found.jpg",
        "placeholder.png",
        "404.jpg",
        "no_image.jpg",
        "noimage.png",
        "No_image_available.png",
        "nophoto.gif",
        "missing_image@2x.png",
        "image_404.png",
        "placeholder-1024x768.png",
        "this-photo-has-been-removed.jpg",
        "image%20not%20found.png",
        "spaceball.gif",
    ],
)
def test_a_redirect_to_a_placeholder_is_no_photo(name: str, tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"p0": photo(0), "p1": photo(1)})
        server.routes[f"/static/{name}"] = answer(PHOTO)
        server.routes["/images/p1"] = redirect(f"/static/{name}")
        file = pipeline(tmp_path, server, want=2)
        assert way.load(file).crawl().num_kept == 1
        assert statuses(file)["p1"] == ("failed", "placeholder")


@pytest.mark.parametrize(
    "name",
    [
        "missing-you.jpg",
        "removed-from-the-city.jpg",
        "lake404.jpg",
        "404-lake.jpg",
        "unavailability.jpg",
        "no-mans-land.jpg",
        "deleted-scenes.jpg",
        "lake-not-found-on-maps.jpg",
        "the-page.jpg",
        "1024x768.jpg",
        "nopicnic.jpg",
    ],
)
def test_names_of_photos_are_no_placeholders(name: str) -> None:
    assert not says_gone("https://h/a.jpg", f"https://h/{name}")
    assert not says_gone("https://h/404.jpg", "https://h/404.jpg")
    assert not says_gone("https://h/a/removed.jpg", "https://cdn.h/b/removed.jpg"), "a photo that is called so"
