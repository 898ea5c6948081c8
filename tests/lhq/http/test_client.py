"""The client against servers with bad manners: where it goes, how long it waits, what it refuses."""

from __future__ import annotations

import gzip
import threading
import time
from typing import Any

import pytest

from lhq.errors import KeyMissing, SourceError
from lhq.http import Hosts, clean
from lhq.http.pace import BREAKER_FAILURES, retry_after_s
from tests.lhq.bad_server import (
    Route,
    Server,
    answer,
    as_json,
    chunked,
    client,
    dripping,
    in_turn,
    redirect,
    refusal,
    stalling,
    truncated,
)

PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 400


# --- what is taken, and what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "reason", "permanent"),
    [
        (answer(b"gone", 404), "http-404", True),
        (answer(b"gone", 410), "http-410", True),
        (answer(b"no", 403), "http-403", False),
        (answer(b"oops", 500), "http-500", False),
        (answer(b"later", 429), "throttled", False),
        (answer(b"", 204), "http-204", False),
        (answer(PHOTO, x_robots_tag="noai"), "opt-out", True),
        (answer(PHOTO, x_robots_tag="otherbot: noindex, nofollow"), "opt-out", True),
        (truncated(PHOTO, 1000), "truncated", False),
        (truncated(PHOTO, 0), "truncated", False),
        (chunked([PHOTO], is_whole=False), "truncated", False),
        (answer(bytes(200_001)), "too-large", True),
        (chunked([bytes(70_000)] * 4), "too-large", True),
        (answer(PHOTO, content_encoding="br"), "bad-answer", False),
        (answer(gzip.compress(bytes(10**7)), content_encoding="gzip"), "too-large", True),
        (answer(gzip.compress(PHOTO)[:-9], content_encoding="gzip"), "truncated", False),
        (lambda talk: talk.hang_up(), "disconnected", False),
        (lambda talk: talk.hang_up(rudely=True), "disconnected", False),
        (lambda talk: (talk.raw(b"SSH-2.0-OpenSSH\r\n"), talk.hang_up())[0], "bad-answer", False),
        (lambda talk: (talk.raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99_999), talk.hang_up())[0], "bad-answer", False),
        (stalling(PHOTO, 10), "timeout", False),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", bytes(999)), "timeout", False),
        (dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"z" * 999), "timeout", False),
    ],
)
def test_each_bad_response_has_its_reason(route: Route, reason: str, permanent: bool) -> None:
    with Server({"/": route}) as server:
        limits = {"read_timeout_s": 0.3, "total_timeout_s": 0.5} if reason == "timeout" else {}
        error = refusal(client(server, max_bytes=200_000, **limits), server.url("/p.jpg"))
        assert (error.reason, error.permanent) == (reason, permanent)


def test_an_opt_out_is_checked_before_the_body_is_read() -> None:
    with Server() as server:
        server.routes["/"] = dripping(b"HTTP/1.1 200 OK\r\nX-Robots-Tag: noimageai\r\nContent-Length: 99\r\n\r\n", b"")
        assert refusal(client(server), server.url("/")).reason == "opt-out"


def test_a_body_longer_than_its_content_length_is_cut_there() -> None:
    with Server({"/": lambda talk: (talk.head(200, {}, 10), talk.raw(PHOTO))[0]}) as server:
        found = client(server)
        assert len(found.fetch(server.url("/a")).body) == 10
        # What followed is not taken for the next answer.
        assert len(found.fetch(server.url("/b")).body) == 10


def test_at_most_five_redirects_are_followed() -> None:
    with Server({"/photo": answer(PHOTO)}) as server:
        for hop in range(6):
            server.routes[f"/hop{hop}"] = redirect(f"/hop{hop - 1}" if hop else "/photo")
        found = client(server)
        assert found.fetch(server.url("/hop4")).url == server.url("/photo")
        assert refusal(found, server.url("/hop5")).reason == "redirects"
        server.routes["/loop"] = redirect("/loop")
        assert refusal(found, server.url("/loop")).reason == "redirects"
        server.routes["/file"] = redirect("file:///etc/passwd")
        assert refusal(found, server.url("/file")).reason == "bad-url"


def test_connections_are_kept_alive_and_a_closed_one_is_replaced() -> None:
    with Server({"/": answer(PHOTO)}) as server:
        found = client(server)
        for _ in range(5):
            found.fetch(server.url("/a"))
        assert server.num_connections == 1
        server.routes["/bye"] = lambda talk: (talk.send(200, PHOTO), talk.hang_up())[0]
        found.fetch(server.url("/bye"))
        found.fetch(server.url("/a"))
        assert server.paths() == ["/a"] * 5 + ["/bye", "/a"]


def test_abort_ends_requests_in_flight() -> None:
    with Server({"/": stalling(PHOTO, 10)}) as server:
        found = client(server)
        threading.Timer(0.2, found.abort).start()
        assert refusal(found, server.url("/a")).reason == "stopped"


def test_the_user_agent_names_lhq_and_the_contact() -> None:
    with Server({"/": answer(PHOTO)}) as server:
        client(server, user_agent="lab/1", contact="mailto:a@b.org").fetch(server.url("/"))
        assert server.seen[0].headers["user-agent"] == "lab/1 (+mailto:a@b.org)"


# --- robots.txt -------------------------------------------------------------------------------------------------


def test_robots_txt_is_fetched_once_and_obeyed() -> None:
    rules = b"User-agent: *\nDisallow: /private/\nDisallow: /*.gif$\n"
    with Server({"/": answer(PHOTO), "/robots.txt": answer(rules)}) as server:
        found = client(server, robots=True)
        found.fetch(server.url("/a.jpg"))
        found.fetch(server.url("/b.jpg"))
        error = refusal(found, server.url("/private/a.jpg"))
        assert (error.reason, error.permanent) == ("robots", True)
        assert refusal(found, server.url("/c.gif")).reason == "robots"
        assert [request.path for request in server.seen] == ["/robots.txt", "/a.jpg", "/b.jpg"]


def test_a_missing_robots_txt_allows_and_a_failing_one_postpones() -> None:
    with Server({"/": answer(PHOTO), "/robots.txt": answer(b"", 404)}) as server:
        client(server, robots=True).fetch(server.url("/a.jpg"))
        server.routes["/robots.txt"] = answer(b"", 500)
        error = refusal(client(server, robots=True), server.url("/a.jpg"))
        assert (error.reason, error.permanent) == ("robots-http-500", False)


def test_a_crawl_delay_slows_the_host() -> None:
    with Server({"/": answer(PHOTO), "/robots.txt": answer(b"User-agent: *\nCrawl-delay: 20\n")}) as server:
        found = client(server, robots=True)
        found.fetch(server.url("/a.jpg"))
        assert found.host_of(server.url()).pace_per_s == 1 / 20


# --- pace -------------------------------------------------------------------------------------------------------


def test_throttling_halves_the_pace_once_for_all_requests_in_flight() -> None:
    hosts = Hosts(num_slots=4, pace_per_s=64)
    host = hosts["a"]
    began = time.monotonic()
    for _ in range(4):
        hosts.throttled(host, began, 0.0, 429)
    assert host.pace_per_s == 32
    hosts.throttled(host, time.monotonic(), 0.0, 429)
    assert host.pace_per_s == 16
    host.slowed_at -= 5
    hosts.succeeded(host)
    assert host.pace_per_s == pytest.approx(16.8)
    hosts.succeeded(host)
    assert host.pace_per_s == pytest.approx(16.8), "not more often than each second"


def test_retry_after_is_obeyed_to_the_second() -> None:
    with Server({"/": answer(b"", 429, retry_after="7")}) as server:
        found = client(server)
        refusal(found, server.url("/"))
        assert 1 < found.host_of(server.url()).wait_s(time.monotonic()) <= 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "99999999"}, 86400),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "5, 9"}, 5),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86400),
        ({"retry-after": "Wed, 99 Foo 2099 99:99:99 GMT"}, None),
        ({"x-ratelimit-reset": str(round(time.time() * 1000) - 60_000)}, None),  # in milliseconds, and past
        ({"x-ratelimit-reset": "30"}, 30),
        ({}, None),
    ],
)
def test_retry_after_is_read_or_ignored(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_slots_of_a_host_are_never_exceeded() -> None:
    most, now, lock, all_slots = 0, 0, threading.Lock(), threading.Barrier(3, timeout=60)

    def route(talk: Any) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        all_slots.wait()  # breaks, and with it the answer, should the slots never all be in use
        with lock:
            now -= 1
        talk.send(200, PHOTO)

    with Server({"/": route}) as server:
        found = client(server, per_host=3)
        threads = [threading.Thread(target=found.fetch, args=(server.url(f"/{i}"),)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 3


def test_the_circuit_breaker_opens_after_failures_and_a_probe_closes_it() -> None:
    with Server({"/": answer(b"", 500)}) as server:
        found = client(server)
        host = found.host_of(server.url())
        for _ in range(BREAKER_FAILURES):
            refusal(found, server.url("/"))
        assert 1 < host.wait_s(time.monotonic()) < 35
        host.paused_until = 0.0
        assert found.hosts.try_acquire(host) == 0
        assert host.wait_s(time.monotonic()) > 1e9, "one probe at a time"
        found.hosts.release(host)
        refusal(found, server.url("/"))
        assert host.wait_s(time.monotonic()) > 35, "a failed probe doubles the wait"
        host.paused_until = 0.0
        server.routes["/"] = answer(PHOTO)
        found.fetch(server.url("/"))
        assert host.num_failures == 0


def test_a_hosts_limit_on_bytes_per_second_is_kept() -> None:
    with Server({"/": answer(PHOTO)}) as server:
        found = client(server)
        found.limit(server.url(), bytes_per_s=len(PHOTO) / 5)
        found.fetch(server.url("/"))
        assert 4 < found.host_of(server.url()).wait_s(time.monotonic()) <= 5.1


def test_a_sites_limits_apply_to_every_host_of_its_domain() -> None:
    found = client()
    for name in ("upload.wikimedia.org", "thumb.wikimedia.org", "tomorrow.wikimedia.org"):
        host = found.host_of(f"https://{name}/a.jpg")
        assert (host.num_slots, host.bytes_per_s) == (2, 25e6 / 8), name
    for name in ("wikimedia.org.example.org", "notwikimedia.org", "example.org"):
        assert found.host_of(f"https://{name}/a.jpg").bytes_per_s is None, name
    assert found.service_of("https://commons.wikimedia.org/w/api.php").bytes_per_s is None


# --- services ---------------------------------------------------------------------------------------------------


def test_a_service_call_is_retried_after_errors() -> None:
    ok = as_json({"fine": True})
    with Server({"/": in_turn(answer(b"", 429, retry_after="0"), truncated(b"x" * 9, 2), ok)}) as server:
        found = client(server)
        body = found.read_json("x", found.api("GET", server.url("/")))
        assert (body, len(server.seen)) == ({"fine": True}, 3)


def test_a_service_that_stays_down_is_an_error() -> None:
    with Server({"/": answer(b"", 502)}) as server:
        with pytest.raises(SourceError, match="502"):
            client(server, max_attempts=3).api("GET", server.url("/"))
        assert len(server.seen) == 3


def test_a_redirect_of_a_service_is_not_followed_with_the_key() -> None:
    with Server() as other, Server({"/": redirect("http://127.0.0.1:1/")}) as server:
        found = client(server, other)
        with pytest.raises(SourceError, match="302"):
            found.read_json("x", found.api("GET", server.url("/"), headers={"Authorization": "key"}))
        assert other.num_connections == 0


@pytest.mark.parametrize("body", [b"<html>", b'{"a": ', b"\xff\xfe", b"[" * 100_000])
def test_a_malformed_response_of_a_service_is_one_error(body: bytes) -> None:
    with Server({"/": answer(body)}) as server:
        found = client(server)
        with pytest.raises(SourceError, match="not JSON"):
            found.read_json("x", found.api("GET", server.url("/")))


def test_keys_and_control_characters_never_reach_a_message() -> None:
    with Server({"/": answer(b"bad key s3cret \x1b[31m\r\nINFO all is well", 401)}) as server:
        found = client(server)
        found.keep_secret("s3cret", "")
        with pytest.raises(KeyMissing) as caught:
            found.read_json(server.url("/?key=s3cret"), found.api("GET", server.url("/?key=s3cret")))
        assert "s3cret" not in str(caught.value)
        assert "***" in str(caught.value)
        assert str(caught.value).isprintable()
    assert clean("a\u202eb\u2028c\x00") == "a\\u202eb\\u2028c\\x00"
    assert clean("\u200ea\u200fb\u061cc\ud800") == "\\u200ea\\u200fb\\u061cc\\ud800"


def test_a_requests_session_goes_through_the_client() -> None:
    with Server({"/": in_turn(answer(b"", 503, retry_after="0"), as_json({"a": 1}))}) as server:
        session = client(server).session()
        response = session.post(server.url("/rest"), data={"q": "ü"})
        assert response.json() == {"a": 1}
        assert [request.params for request in server.seen] == [{"q": "ü"}] * 2
        with pytest.raises(SourceError, match="not a public address"):
            session.get("http://127.0.0.1:9/")
