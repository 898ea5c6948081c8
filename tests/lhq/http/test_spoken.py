"""HTTP as servers speak it: encodings, interim answers, odd header lines, redirects in raw UTF-8, proxies."""

from __future__ import annotations

import gzip
import logging
import socket
import zlib

import pytest

from lhq.config import HttpSettings
from lhq.errors import ConfigError
from lhq.http import Client
from tests.lhq.bad_server import Route, Server, Talk, answer, client, dripping, refusal
from tests.lhq.conftest import Authority

PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 400


def packed(data: bytes) -> bytes:
    """Gzip without the time of day, which would stand in a test's name and differ from process to process."""
    return gzip.compress(data, mtime=0)


def bare(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (packed(PHOTO), "gzip"),
        (packed(PHOTO), "X-GZip"),
        (packed(PHOTO[:999]) + packed(PHOTO[999:]), "gzip"),
        (packed(PHOTO) + bytes(99), "gzip"),
        (zlib.compress(PHOTO), "deflate"),
        (bare(PHOTO), "deflate"),
        (packed(zlib.compress(PHOTO)), "deflate, gzip"),
        (packed(PHOTO), "identity, gzip"),
        (packed(PHOTO), '"gzip"'),
        (packed(PHOTO), "gzip;q=1.0"),
        (zlib.compress(PHOTO) + b"junk", "deflate"),
        *((PHOTO, name) for name in ("identity", "none", "utf-8", "UTF-8", "binary", "8bit", "image/jpeg", "")),
    ],
)
def test_content_codings_are_decoded_and_unknown_names_ignored(body: bytes, coding: str) -> None:
    with Server({"/": answer(body, content_encoding=coding)}) as server:
        assert bytes(client(server).fetch(server.url("/")).body) == PHOTO


@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        *((PHOTO, name, "bad-answer") for name in ("br", "zstd", "compress", "gzip, br", "dcb", "gzip", "deflate")),
        *((PHOTO, name, "bad-answer") for name in ("brotli", "lzma", "xz", "bzip2", "br;q=1")),
        (packed(PHOTO)[:-1], "gzip", "truncated"),
        (packed(PHOTO)[:20], "gzip", "truncated"),
        (packed(PHOTO) + packed(PHOTO)[:40], "gzip", "truncated"),
        (zlib.compress(PHOTO)[:-1], "deflate", "truncated"),
        (bare(PHOTO)[:-9], "deflate", "truncated"),
        (packed(packed(bytes(10**7))), "gzip, gzip", "too-large"),
        (packed(PHOTO), "gzip, gzip, gzip, gzip", "bad-answer"),
        (packed(PHOTO)[:-8] + bytes(8), "gzip", "bad-answer"),
    ],
)
def test_a_partial_body_is_never_a_success(body: bytes, coding: str, reason: str) -> None:
    with Server({"/": answer(body, content_encoding=coding)}) as server:
        assert refusal(client(server, max_bytes=200_000), server.url("/")).reason == reason


def test_an_unknown_transfer_coding_is_refused() -> None:
    with Server(
        {"/": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n", b"")}
    ) as server:
        assert refusal(client(server), server.url("/")).reason == "bad-answer"


def raw(*parts: bytes) -> Route:
    def route(talk: Talk) -> None:
        for part in parts:
            talk.raw(part)

    return route


OK = b"Content-Length: 3\r\n\r\nabc"
ODD_HEADS = {
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + OK,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n" + OK,
    "several interim": b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\n" + OK,
    "line without colon": b"HTTP/1.1 200 OK\r\nthis is no header\r\n" + OK,
    "first and last": b"HTTP/1.1 200 OK\r\n<html>\r\nA: b\r\n=\r\nContent-Length: 3\r\noops\r\n\r\nabc",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
    "no reason": b"HTTP/1.1 200\r\n" + OK,
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n" + OK,
    "empty name": b"HTTP/1.1 200 OK\r\n: odd\r\n" + OK,
    "raw bytes": b"HTTP/1.1 200 OK\r\nX-\xff\xfe: \xff\r\nX: \xc3\xa4\r\n" + OK,
}


@pytest.mark.parametrize("head", ODD_HEADS.values(), ids=ODD_HEADS)
def test_odd_response_heads_are_parsed_and_the_connection_is_reused(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Server({"/": raw(head)}) as server:
        found = client(server)
        for _ in range(2):
            assert found.fetch(server.url("/")).body == b"abc"
        assert server.num_connections == 1
    assert caplog.messages == []


def test_an_opt_out_after_an_invalid_header_line_is_seen() -> None:
    with Server({"/": raw(b"HTTP/1.1 200 OK\r\nodd line\r\nX-Robots-Tag: noai\r\n" + OK)}) as server:
        assert refusal(client(server), server.url("/")).reason == "opt-out"


def test_endless_response_heads_are_refused() -> None:
    for endless in (b"HTTP/1.1 103 E\r\n\r\n" * 99, b"HTTP/1.1 200 OK\r\n" + b"odd\r\n" * 999):
        with Server({"/": raw(endless)}) as server:
            assert refusal(client(server), server.url("/")).reason in {"bad-answer", "http-103"}


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/fotos/see-ä.jpg".encode(), "/fotos/see-%C3%A4.jpg"),
        ("/fotos/see-ä.jpg".encode("latin-1"), "/fotos/see-%C3%A4.jpg"),
        (b"b.jpg", "/photos/b.jpg"),
        (b"../b.jpg", "/b.jpg"),
        (b"./b.jpg#part", "/photos/b.jpg"),
        (b" /a b.jpg ", "/a%20b.jpg"),
        ("/湖?größe=1".encode(), "/%E6%B9%96"),
        (b"//NETLOC/c.jpg", "/c.jpg"),
        (b"/b.jpg\r\nLocation: /c.jpg", "/b.jpg"),
        (b"/b,1.jpg", "/b,1.jpg"),
        (b"/%7Eann/%2F%C3%A4.jpg", "/%7Eann/%2F%C3%A4.jpg"),
    ],
)
def test_redirects_resolve_as_browsers_do(location: bytes, path: str) -> None:
    with Server({"/": answer(PHOTO)}) as server:
        where = location.replace(b"NETLOC", server.netloc.encode())
        server.routes["/photos/a.jpg"] = raw(
            b"HTTP/1.1 302 Found\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n"
        )
        assert client(server).fetch(server.url("/photos/a.jpg")).url.split("?")[0] == server.url(path)
        assert server.paths() == ["/photos/a.jpg", path]


@pytest.mark.parametrize("where", [b"http://[::1", b"ftp://x/y", b"http://a:b@c/", b"\x01"])
def test_redirects_without_a_valid_target_have_a_reason(where: bytes) -> None:
    with Server({"/": raw(b"HTTP/1.1 302 Found\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n")}) as server:
        assert refusal(client(server), server.url("/")).reason == "bad-url"


def test_a_short_refused_body_keeps_the_connection_and_a_long_one_closes_it() -> None:
    with Server({"/": answer(b"gone", 404), "/long": answer(bytes(10**6), 404)}) as server:
        found = client(server)
        for _ in range(3):
            refusal(found, server.url("/a"))
        assert server.num_connections == 1
        refusal(found, server.url("/long"))
        refusal(found, server.url("/a"))
        assert server.num_connections == 2


def test_no_cookies_and_no_netrc_logins_are_sent(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    with Server({"/": answer(PHOTO, set_cookie="a=b; Path=/")}) as server:
        found = client(server)
        for _ in range(2):
            found.fetch(server.url("/"))
        assert [set(request.headers) for request in server.seen] == [
            {"host", "user-agent", "accept", "accept-encoding"}
        ] * 2


# --- proxies ----------------------------------------------------------------------------------------------------


def test_photos_are_fetched_through_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server({"/": answer(PHOTO)}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:s3cret@{proxy.netloc}")
        monkeypatch.setenv("no_proxy", "intranet.test")
        found = Client(HttpSettings(robots=False))
        assert found.fetch("http://93.184.215.14/a.jpg").body == PHOTO
        assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")
        assert proxy.seen[0].headers["host"] == "93.184.215.14"
        assert found.clean("s3cret") == "***"
        # A name that only the proxy can look up is the proxy's to judge.
        assert found.fetch("http://photos.invalid/b.jpg").body == PHOTO
        assert refusal(found, "http://intranet.test/c.jpg").reason == "unresolved"


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fd00::1]", "192.168.1.1:8080"])
def test_no_proxy_is_asked_for_a_private_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server({"/": answer(PHOTO)}) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url())
        found = Client(HttpSettings(robots=False))
        assert refusal(found, f"http://{host}/").reason == "forbidden-address"
        assert proxy.num_connections == 0


def test_loopback_bypasses_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server({"/": answer(b"proxied")}) as proxy, Server({"/": answer(PHOTO)}) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        monkeypatch.setenv("http_proxy", proxy.url())
        assert client(server).fetch(server.url("/a")).body == PHOTO
        # Nor does naming the proxy open its address to photos.
        assert refusal(client(server), proxy.url("/")).reason == "forbidden-address"
        assert proxy.num_connections == 0


def test_https_goes_through_a_tunnel(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server({"/": answer(PHOTO)}, tls=authority.context) as server:

        def connect(talk: Talk) -> None:
            if talk.request.method != "CONNECT":
                talk.send(405)
                return
            with socket.create_connection(("127.0.0.1", server.port)) as upstream:
                talk.raw(b"HTTP/1.1 200 Connection established\r\n\r\n")
                talk.pipe(upstream)
            talk.hang_up()

        with Server({"": connect}) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url())
            found = Client(HttpSettings(robots=False, ca_bundle=str(authority.bundle)))
            assert found.fetch("https://photos.test/a.jpg").body == PHOTO
            assert [request.headers["host"] for request in server.seen] == ["photos.test"]


def test_a_proxy_that_refuses_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server({"": answer(b"no", 407)}) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url())
        error = refusal(Client(HttpSettings(robots=False)), "https://93.184.215.14/a.jpg")
        assert (error.reason, error.permanent) == ("proxy", False)


@pytest.mark.parametrize("value", ["", "  ", "http://PROXY\n", " PROXY "])
def test_a_blank_proxy_is_none_and_spaces_around_one_are_no_part_of_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server({"/": answer(PHOTO)}) as proxy:
        monkeypatch.setenv("http_proxy", value.replace("PROXY", proxy.netloc))
        found = Client(HttpSettings(robots=False))
        if value.strip():
            assert found.fetch("http://photos.invalid/a.jpg").body == PHOTO
        else:
            assert refusal(found, "http://photos.invalid/a.jpg").reason == "unresolved"


def test_an_unsupported_proxy_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="socks5"):
        Client(HttpSettings())
