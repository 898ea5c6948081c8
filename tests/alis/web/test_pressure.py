"""The server under load and attack: half-open and slow connections, a greedy viewer, wrong hosts, failing tiles."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

import alis
from alis.web import connections, middleware
from alis.web.responses import accepts_gzip
from tests.alis import painter as models
from tests.alis.web.serving import Served, until


@pytest.fixture(scope="module")
def panorama() -> alis.Panorama:
    return alis.Panorama(models.tiny(), 7)


@pytest.fixture(scope="module")
def usual(panorama: alis.Panorama) -> Iterator[Served]:
    with serving(panorama) as server:
        yield server


@contextlib.contextmanager
def serving(panorama: alis.Panorama, **how: object) -> Iterator[Served]:
    server = Served(panorama, **how)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def dialled(server: Served, num: int, *, of: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Idle connections of one viewer; every address 127.0.0.x is another viewer."""
    wires: list[socket.socket] = []
    try:
        for _ in range(num):
            wires.append(socket.create_connection(("127.0.0.1", server.port), timeout=30, source_address=(of, 0)))
        yield wires
    finally:
        for one in wires:
            one.close()


def get(server: Served, path: str = "/model.json", *, of: str = "127.0.0.9") -> http.client.HTTPResponse:
    """A request of another viewer, over its own connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(of, 0))
    connection.request("GET", path, headers={"Connection": "close"})
    return connection.getresponse()


def rest(one: socket.socket) -> bytes:
    """Everything received until the server closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := one.recv(65536):
            found += piece
    return found


def test_one_viewers_half_open_connections_do_not_block_others(panorama: alis.Panorama) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    try:
        with serving(panorama) as server, dialled(server, 1100) as wires:
            assert get(server).status == 200
            refused = rest(wires[-1])
            assert refused.startswith(b"HTTP/1.1 429 ")
            assert b"Retry-After: " in refused
            assert len(server.server.server_state.connections) <= 129
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_idle_connection_is_closed_for_a_new_one_when_all_are_in_use(panorama: alis.Panorama) -> None:
    limits = connections.ConnectionLimits(connections=4, per_viewer=3)
    with serving(panorama, limits=limits) as server:
        with dialled(server, 2, of="127.0.0.2") as some, dialled(server, 2, of="127.0.0.3"):
            until(lambda: len(server.server.server_state.connections) == 4)
            assert get(server).status == 200
            assert rest(some[0]) == b"", "the longest idle one was closed"


def test_a_closed_connection_is_no_longer_counted(panorama: alis.Panorama) -> None:
    with serving(panorama, limits=connections.ConnectionLimits(per_viewer=2)) as server:
        for _ in range(5):
            with dialled(server, 2, of="127.0.0.2"):
                until(lambda: len(server.server.server_state.connections) == 2)
            until(lambda: not server.server.server_state.connections)
        assert get(server, of="127.0.0.2").status == 200


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_request_head_that_never_arrives_times_out(panorama: alis.Panorama, head: bytes) -> None:
    with serving(panorama, limits=connections.ConnectionLimits(head_s=0.2)) as server, dialled(server, 1) as (one,):
        one.sendall(head)
        told = rest(one)
        assert told == b"" if not head else told.startswith(b"HTTP/1.1 408 ")


def test_a_slow_request_head_does_not_extend_its_deadline(panorama: alis.Panorama) -> None:
    with serving(panorama, limits=connections.ConnectionLimits(head_s=0.3)) as server, dialled(server, 1) as (one,):
        one.sendall(b"GET /model.json HTTP/1.1\r\nHost: x\r\n\r\n")
        one.settimeout(0.02)
        seen, num_bytes = b"", 0
        while b"408 Request Timeout" not in seen:
            try:
                piece = one.recv(65536)
                assert piece or num_bytes, "closed without a word"
                seen += piece
            except TimeoutError:
                one.sendall(b"G" if not num_bytes else b"E")
                num_bytes += 1
            assert num_bytes < 1000, "it may go on for ever"
        assert seen.startswith(b"HTTP/1.1 200 "), "the request before it was answered"


def test_a_connection_that_sends_an_unneeded_body_is_closed(panorama: alis.Panorama) -> None:
    with serving(panorama, limits=connections.ConnectionLimits(head_s=0.2)) as server, dialled(server, 1) as (one,):
        one.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        first = one.recv(65536)
        assert first.startswith(b"HTTP/1.1 405 ")
        one.sendall(b"x")
        rest(one)
        until(lambda: not server.server.server_state.connections)


def test_a_viewer_who_does_not_read_is_disconnected(panorama: alis.Panorama) -> None:
    with serving(panorama, limits=connections.ConnectionLimits(stall_s=0.2)) as server, dialled(server, 1) as (one,):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            one.setblocking(False)
            for _ in range(20_000):
                one.sendall(b"GET /app.js HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: not server.server.server_state.connections)


def test_only_named_proxies_are_trusted_for_viewers_addresses(panorama: alis.Panorama) -> None:
    def ask(server: Served, viewer: str, k: int) -> int:
        return server.client.get(f"/tile/3/-/{k}.webp", headers={"X-Forwarded-For": viewer}).status_code

    for proxies, want in (((), [200, 429, 429]), (("127.0.0.1",), [200, 200, 429])):
        limits = connections.ConnectionLimits(proxies=proxies)
        with serving(panorama, per_viewer=1, limits=limits) as server, ThreadPoolExecutor(3) as pool:
            with server.painter._device:
                asked = [pool.submit(ask, server, "198.51.100.1", 0)]
                until(lambda: server.painter.stats.painted + len(server.painter._painting) == 1)
                asked.append(pool.submit(ask, server, "198.51.100.2", 1))
                until(lambda some=asked: server.painter.num_waiting == 1 or some[1].done())
                asked.append(pool.submit(ask, server, "198.51.100.1", 2))
                until(asked[2].done)
            assert [done.result() for done in asked] == want


def test_addresses_of_one_ipv6_network_are_one_viewer() -> None:
    assert (
        connections.client_key("2001:db8:1:2:3::4")
        == connections.client_key("2001:db8:1:2:ffff::1")
        == "2001:db8:1:2::/64"
    )
    assert connections.client_key("2001:db8:1:3::4") != connections.client_key("2001:db8:1:2::4")
    assert connections.client_key("::ffff:192.0.2.7") == connections.client_key("192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/model.json", "/stats.json", "/tile/7/-/3.webp", "/strip/7/-/0/64.png"]
)
def test_head_is_answered_wherever_get_is(usual: Served, method: str, path: str) -> None:
    answer = usual.client.request(method, path)
    assert answer.status_code == 200
    assert bool(answer.content) == (method == "GET")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_of_a_strip_paints_nothing(panorama: alis.Panorama) -> None:
    with serving(panorama) as server:
        told, sent = server.client.head("/strip/7/-/0/64.png"), server.client.get("/strip/7/-/0/64.png")
        for name in ("content-type", "content-disposition"):
            assert told.headers[name] == sent.headers[name]
        assert told.headers.get("content-length") in {None, sent.headers["content-length"]}, "not 0"
        assert server.client.head("/strip/7/-/0/999999.png").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/model.json", "/stats.json", "/tile/7/-/3.webp", "/strip/7/-/0/9.png"]
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_a_method_that_is_not_allowed_says_which_are(usual: Served, path: str, method: str) -> None:
    answer = usual.client.request(method, path)
    assert answer.status_code == 405
    assert {word.strip() for word in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
    assert set(answer.json()) == {"error", "hint"}


def test_text_is_gzipped_for_viewers_that_accept_it(panorama: alis.Panorama) -> None:
    with serving(panorama) as server:
        for path in ("/", "/app.js", "/app.css", "/plane.js"):
            plain = server.client.get(path, headers={"Accept-Encoding": "identity"})
            packed = server.client.get(path, headers={"Accept-Encoding": "br;q=1, gzip;q=0.8"})
            assert "content-encoding" not in plain.headers
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.content == plain.content
            assert int(packed.headers["content-length"]) < 0.5 * len(plain.content)
            assert packed.headers["etag"] != plain.headers["etag"], "two forms are two things to a cache"
            assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
            for answer, coding in ((plain, "identity"), (packed, "gzip")):
                known = {"Accept-Encoding": coding, "If-None-Match": answer.headers["etag"]}
                assert server.client.get(path, headers=known).status_code == 304
        with httpx.stream("GET", f"http://127.0.0.1:{server.port}/app.js") as raw:
            assert gzip.decompress(b"".join(raw.iter_raw()))
        assert "content-encoding" not in server.client.get("/tile/7/-/1.webp").headers, "pictures are packed already"


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        *[("", False), ("gzip", True), ("*", True), ("gzip;q=0", False), ("*;q=0", False)],
        *[("br, GZIP ; q=0.5", True), ("identity", False), ("gzip;q=x", False), ("*, gzip;q=0", False)],
    ],
)
def test_accepts_gzip(accepted: str, takes: bool) -> None:
    assert accepts_gzip(accepted) is takes


def test_only_allowed_host_names_are_answered(panorama: alis.Panorama) -> None:
    with serving(panorama, hosts=("panorama.example", "127.0.0.1")) as server:
        for host in ("panorama.example", "PANORAMA.example:8200", "panorama.example.", f"127.0.0.1:{server.port}"):
            assert server.client.get("/model.json", headers={"Host": host}).status_code == 200, host
        for host in ("evil.example", "panorama.example.evil.example", "127.0.0.1.evil.example", ""):
            answer = server.client.get("/model.json", headers={"Host": host})
            assert answer.status_code == 400, host
            assert set(answer.json()) == {"error", "hint"}
    with serving(panorama) as server:
        assert server.client.get("/model.json", headers={"Host": "any.example"}).status_code == 200


def asked(server: Served, line: str, host: str = "x") -> tuple[int, bytes, bytes]:
    """Status, headers and body of the response to a raw request."""
    with dialled(server, 1) as (one,):
        one.sendall(f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = rest(one).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize("authority", ["x", "127.0.0.1:8200", "someone:word@x", "[::1]:80", ""])
@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
def test_a_request_may_use_an_absolute_url(usual: Served, scheme: str, authority: str) -> None:
    whole = f"{scheme}://{authority}"
    for path in ("/model.json", "/tile/7/-/3.webp?m=1", "/strip/7/-/0/9.png", "/%6dodel.json"):
        status, _, body = asked(usual, f"GET {whole}{path}")
        assert status == 200, path
        assert body == usual.client.get(path).content, path
    assert asked(usual, f"GET {whole}")[2] == asked(usual, f"GET {whole}?a=1")[2] == usual.client.get("/").content
    assert asked(usual, f"POST {whole}/model.json")[0] == 405
    assert asked(usual, f"HEAD {whole}/model.json")[::2] == (200, b"")
    assert asked(usual, f"GET {whole}/nowhere")[0] == 404
    assert asked(usual, f"GET {whole}/tile/7/-/3{'0' * 7000}.webp")[0] == 414


def test_the_host_of_an_absolute_url_takes_precedence(panorama: alis.Panorama) -> None:
    with serving(panorama, hosts=("panorama.example",)) as server:
        assert asked(server, "GET http://panorama.example:80/model.json", host="evil.example")[0] == 200
        assert asked(server, "GET http://evil.example/model.json", host="panorama.example")[0] == 400
        assert asked(server, "GET http://evil.example@/model.json", host="panorama.example")[0] == 400


@pytest.mark.parametrize(
    "line", ["GET *", "CONNECT x:80", "GET ftp://x/model.json", "GET model.json", "GET http:/model.json"]
)
def test_invalid_request_targets_are_refused_with_a_hint(usual: Served, line: str) -> None:
    status, _, body = asked(usual, line)
    assert status == 400
    assert set(json.loads(body)) == {"error", "hint"}


def test_the_server_lists_its_methods_for_options(usual: Served) -> None:
    status, head, body = asked(usual, "OPTIONS *")
    assert (status, body) == (204, b"")
    assert b"\r\nallow: get, head\r\n" in head + b"\r\n"


def test_a_host_may_be_an_ip_address() -> None:
    assert middleware.is_host_allowed("[::1]:8200", ["[::1]"])
    assert not middleware.is_host_allowed("[::2]:8200", ["[::1]"])


def test_a_failing_tile_slows_its_batch_only_once(panorama: alis.Panorama) -> None:
    """Halving isolates it the first time; from then on it is painted alone and the others in one batch."""
    broken = alis.Panorama(panorama.g, 7, codes={"mine": torch.zeros(32)})
    broken.anchor_codes.saved["mine"] = torch.zeros(33)
    with serving(broken) as server, ThreadPoolExecutor(20) as pool:
        for turn, most in ((0, 5), (1, 1)):
            before = server.painter.stats.batches
            with server.painter._device:
                first = pool.submit(server.client.get, f"/tile/{turn}/-/50.webp")
                until(lambda: server.painter._painting)
                wanted = ["7/a1fmine/3", *(f"{20 + turn}/-/{k}" for k in range(15))]
                asked = [pool.submit(server.client.get, f"/tile/{one}.webp") for one in wanted]
                until(lambda: server.painter.num_waiting == 16)
            assert [done.result().status_code for done in asked] == [500] + [200] * 15
            assert first.result().status_code == 200
            assert server.painter.stats.batches - before - 1 <= most
