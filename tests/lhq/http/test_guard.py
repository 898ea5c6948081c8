"""Which addresses the client may connect to: never a private one, however it is spelt."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lhq.config import HttpSettings
from lhq.errors import FetchError
from lhq.http import Client, Guard
from lhq.http.guard import is_public, parse
from tests.lhq.bad_server import Server, answer, client, redirect, refusal

PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 400


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        # shared address space of carriers (CGNAT, RFC 6598), first and last
        "100.64.0.0",
        "100.127.255.255",
        "::ffff:100.64.0.1",
        # 6to4 (RFC 3056) around addresses inside, and its relays (RFC 7526)
        "2002:a00:1::1",
        "2002:c0a8:101::",
        "2002:a9fe:a9fe::1",
        "2002:6440:1::1",
        "192.88.99.1",
        # NAT64 (RFC 6052, RFC 8215) around addresses inside, and the prefix that networks use among themselves
        "64:ff9b::10.0.0.1",
        "64:ff9b::192.168.1.1",
        "64:ff9b::100.64.0.1",
        "64:ff9b:1::1",
        "64:ff9b:1:7f00:0:100::",
        # Teredo, site-local, discard-only, segment routing, benchmarking
        "2001:0:7f00:1::1",
        "fec0::1",
        "100::1",
        "5f00::1",
        "2001:2::1",
        # protocol assignments (RFC 6890; 192.0.0.192 is Oracle's metadata service), documentation (RFC 9637)
        "192.0.0.8",
        "192.0.0.192",
        "::ffff:192.0.0.192",
        "3fff::1",
        # ISATAP (RFC 5214) around addresses inside, and IPv4-translated ones (RFC 2765)
        "2001:470::5efe:7f00:1",
        "2001:470::200:5efe:a9fe:a9fe",
        "::ffff:0:10.0.0.1",
    ],
)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "151.101.1.69",
        "8.8.8.8",
        "2606:4700::6810:84e5",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "100.128.0.1",
        "2606:4700::5efe:808:808",
        "192.0.1.1",
        "::ffff:8.8.8.8",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


_connects: list[object] | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _connects is not None:
        _connects.append(args[1])


sys.addaudithook(_hook)


@pytest.fixture
def connects() -> Iterator[list[object]]:
    """Every address that a socket of this process is connected to, as the interpreter itself reports it."""
    global _connects
    _connects = []
    yield _connects
    _connects = None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.3",
        "127.3",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0",
        "0.0.0.0",
        "127.0.0.1.",
        "LOCALHOST",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fe80::1]",
    ],
)
def test_no_redirect_reaches_a_private_address_however_it_is_spelt(host: str, connects: list[object]) -> None:
    with Server(host="0.0.0.0") as trap, Server() as server:
        server.routes["/out"] = redirect(f"http://{host}:{trap.port}/secret")
        error = refusal(client(server), server.url("/out"))
        assert (error.reason, error.permanent) == ("forbidden-address", True)
        assert connects == [("127.0.0.1", server.port)]
        assert refusal(client(server), f"http://{host}:{trap.port}/").reason == "forbidden-address"
        assert trap.num_connections == 0


def test_an_exemption_holds_for_exactly_one_host_and_port() -> None:
    with Server({"/": answer(PHOTO)}) as server, Server({"/": answer(PHOTO)}) as other:
        found = client(server)
        assert bytes(found.fetch(server.url("/a")).body) == PHOTO
        assert refusal(found, other.url("/a")).reason == "forbidden-address"
        assert refusal(found, f"http://localhost:{server.port}/").reason == "forbidden-address"
    named = HttpSettings(allow_hosts=("Bücher.TEST:80",)).allow_hosts
    assert Guard(named).is_exempt(parse("http://bücher.test/a"))


def test_the_checked_address_is_the_one_connected(monkeypatch: pytest.MonkeyPatch, connects: list[object]) -> None:
    """A name that resolves differently a moment later gains nothing: it is resolved once per connection."""
    with Server({"/": answer(PHOTO)}) as server:
        answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

        def resolve(host: str, port: int, **options: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        found = Client(HttpSettings(allow_hosts=(f"name.test:{server.port}",), robots=False))
        found.fetch(f"http://name.test:{server.port}/")
        assert connects == [("127.0.0.1", server.port)]
        assert next(answers) == "127.0.0.2"


def test_a_host_with_one_forbidden_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("151.101.1.69", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: both)
    with pytest.raises(FetchError, match=r"127\.0\.0\.1: not a public address"):
        Guard().addresses(parse("http://mixed.test/"))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "http://user:pw@example.org/",
        "http:///a",
        "//x",
        "http://[::1",
        "http://example.org:99999/",
        "http://example.org:0/",
        "javascript:alert(1)",
        "http://exa mple.org/",
        "http://example.org/\x1b[2J",
        "",
    ],
)
def test_invalid_urls_are_refused(url: str) -> None:
    assert refusal(client(), url).reason == "bad-url"


def test_urls_are_percent_encoded_for_the_wire() -> None:
    assert parse("http://Exämple.org/ä b?q=ü").url == "http://xn--exmple-cua.org/%C3%A4%20b?q=%C3%BC"
    assert parse("https://a.org:443/x").netloc == "a.org:443"
    assert parse("/b", base="http://[2606:4700::1]:81/a").url == "http://[2606:4700::1]:81/b"
