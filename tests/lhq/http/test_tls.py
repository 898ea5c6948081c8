"""Limits over TLS: handshake, headers and body all end in time, and private authorities are trusted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lhq.config import HttpSettings
from lhq.errors import ConfigError
from lhq.http import Client
from tests.lhq.bad_server import Route, Server, answer, client, dripping, in_turn, refusal, stalling
from tests.lhq.conftest import Authority
from tests.lhq.faults import Fault, Faulty

PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 400
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"


def trusting(*servers: Server | Faulty, authority: Authority, **changes: object) -> Client:
    return client(*servers, ca_bundle=str(authority.bundle), **changes)


@pytest.mark.parametrize("is_kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize(
    "route",
    [dripping(HEAD, bytes(999)), dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"z" * 999), stalling(PHOTO, 10)],
    ids=["body", "headers", "stall"],
)
def test_a_dripping_body_over_tls_times_out(route: Route, is_kept: bool, authority: Authority) -> None:
    with Server({"/": answer(PHOTO), "/slow": route}, tls=authority.context) as server:
        found = trusting(server, authority=authority, total_timeout_s=0.7, read_timeout_s=20)
        if is_kept:
            found.fetch(server.url("/a"))
        assert refusal(found, server.url("/slow")).reason == "timeout"
        assert server.num_connections == 1
        found.fetch(server.url("/a"))


@pytest.mark.parametrize("start", [0, 5, 700], ids=["first byte", "server hello", "certificate"])
def test_a_dripping_tls_handshake_times_out(start: int, authority: Authority) -> None:
    with (
        Server({"/": answer(PHOTO)}, tls=authority.context) as server,
        Faulty(server.port, (Fault(drip_after=start), Fault())) as between,
    ):
        found = trusting(between, authority=authority, total_timeout_s=0.7)
        error = refusal(found, f"https://{between.netloc}/a")
        assert (error.reason, server.seen) == ("timeout", [])
        assert found.fetch(f"https://{between.netloc}/a").body == PHOTO


@pytest.mark.parametrize("start", [0, 5, 10_000], ids=["handshake", "certificate", "body"])
def test_a_stop_ends_every_phase(start: int, authority: Authority) -> None:
    with (
        Server({"/": answer(PHOTO)}, tls=authority.context) as server,
        Faulty(server.port, (Fault(drip_after=start),)) as between,
    ):
        found = trusting(between, authority=authority, total_timeout_s=100)
        threading.Timer(0.3, found.abort).start()
        assert refusal(found, f"https://{between.netloc}/a").reason == "stopped"
        assert refusal(found, f"https://{between.netloc}/b").reason == "stopped"


def test_photos_can_be_stopped_alone(authority: Authority) -> None:
    with Server({"/": answer(b"{}"), "/slow": stalling(PHOTO, 10)}, tls=authority.context) as server:
        found = trusting(server, authority=authority, total_timeout_s=100)
        threading.Timer(0.3, found.abort_photos).start()
        assert refusal(found, server.url("/slow")).reason == "stopped"
        assert found.api("GET", server.url("/a")).status == 200


def test_an_unknown_authority_is_refused_and_a_configured_one_accepted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with Server({"/": answer(PHOTO)}, tls=authority.context) as server:
        assert refusal(client(server), server.url("/a")).reason == "tls"
        assert trusting(server, authority=authority).fetch(server.url("/a")).body == PHOTO
        for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, str(authority.bundle))
            assert client(server).fetch(server.url("/a")).body == PHOTO
            monkeypatch.delenv(name)


def test_a_certificate_of_another_name_is_refused(authority: Authority) -> None:
    with Server({"/": answer(PHOTO)}, tls=authority.context, host="127.0.0.2") as server:
        url = f"https://127.0.0.2:{server.port}/"
        found = client(ca_bundle=str(authority.bundle), allow_hosts=[f"127.0.0.2:{server.port}"])
        assert refusal(found, url).reason == "tls"


def test_an_invalid_ca_bundle_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"\[http\] ca_bundle = .*no such file"):
        Client(HttpSettings(ca_bundle=str(tmp_path / "no.pem")))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "neither.pem"))
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        Client(HttpSettings())
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(ConfigError, match="no certificates"):
        Client(HttpSettings(ca_bundle=str(empty))).fetch("https://151.101.1.69/")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_network_faults_have_their_reasons(tls: bool, authority: Authority) -> None:
    """Latency is borne; a cut or a reset is a failure with a reason, and the next attempt brings the photo."""
    context = authority.context if tls else None
    start = 5000 if tls else 200
    with Server({"/": answer(PHOTO)}, tls=context) as server:
        for fault, reasons in (
            (Fault(latency_s=0.05), set()),
            (Fault(cut_after=0), {"disconnected"}),
            (Fault(cut_after=start), {"truncated"}),
            (Fault(cut_after=start, is_reset=True), {"disconnected", "truncated"}),
            (Fault(holds_end=True), set()),
        ):
            with Faulty(server.port, (fault, Fault())) as between:
                found = trusting(between, authority=authority)
                url = f"http{'s' if tls else ''}://{between.netloc}/a"
                if reasons:
                    assert refusal(found, url).reason in reasons, fault
                assert found.fetch(url).body == PHOTO, fault
                found.close()


def test_a_late_close_is_not_waited_for(authority: Authority) -> None:
    def unframed(talk: object) -> None:
        talk.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")  # type: ignore[attr-defined]
        talk.hang_up()  # type: ignore[attr-defined]

    with (
        Server({"/": in_turn(unframed)}, tls=authority.context) as server,
        Faulty(server.port, (Fault(holds_end=True),)) as between,
    ):
        found = trusting(between, authority=authority, total_timeout_s=100)
        assert found.fetch(f"https://{between.netloc}/a").body == b"abc"


def test_a_client_that_was_closed_still_keeps_its_limits(authority: Authority) -> None:
    with Server({"/": answer(PHOTO), "/slow": dripping(HEAD, bytes(999))}, tls=authority.context) as server:
        found = trusting(server, authority=authority, total_timeout_s=0.7)
        found.fetch(server.url("/a"))
        found.close()
        assert refusal(found, server.url("/slow")).reason == "timeout"
