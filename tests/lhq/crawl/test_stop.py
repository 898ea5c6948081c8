"""SIGTERM ends a crawl within five seconds whatever the servers do, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lhq.bad_server import Route, Server, Talk, answer, dripping, stalling
from tests.lhq.conftest import Authority
from tests.lhq.faults import Fault, Faulty
from tests.lhq.services import crawl, kept, offer, photo, pipeline, search, serve, statuses

ROOT = Path(__file__).parents[3]
# Longer than any limit of ours and far shorter than what the servers below would take.
LONGEST_S = 20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"


def stopped(path: Path, is_under_way: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """Run a crawl, stop it while requests are in flight, and wait for its end."""
    with subprocess.Popen(
        [sys.executable, "-m", "lhq", "crawl", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while not is_under_way():
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            asked_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=LONGEST_S)
            print(f"stopped {time.monotonic() - asked_at:.1f} s after it was asked")
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)
        finally:
            process.kill()


DRIPS: dict[str, Route] = {
    "body": dripping(HEAD, bytes(99999), 0.2),
    "headers": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"z" * 9999, 0.2),
    "stall": stalling(b"x" * 99, 9),
}


@pytest.mark.parametrize(("drip", "is_secure"), [("body", False), *((drip, True) for drip in DRIPS)])
def test_sigterm_ends_a_crawl_of_slow_photos(drip: str, is_secure: bool, tmp_path: Path, authority: Authority) -> None:
    with Server(tls=authority.context if is_secure else None) as server:
        serve(server, {f"p{i}": photo(i) for i in range(6)})
        server.routes["/images/p4"] = server.routes["/images/p5"] = DRIPS[drip]
        file = pipeline(
            tmp_path, server, want=6, total_timeout_s=300, read_timeout_s=300, ca_bundle=str(authority.bundle)
        )

        def is_under_way() -> bool:
            return server.paths().count("/images/p5") == 1 and server.answered["/images/p3"] == 1

        done = stopped(file, is_under_way)
        assert done.returncode == 130, done.stderr
        assert "run the same command again" in done.stderr
        assert len(kept(tmp_path)) == 4
        assert {name for name, (status, _) in statuses(file).items() if status == "waiting"} == {"p4", "p5"}
        server.routes |= {f"/images/p{i}": answer(photo(i)) for i in (4, 5)}
        crawl(file)
        assert len(kept(tmp_path)) == 6


def test_sigterm_ends_a_handshake_that_drips(tmp_path: Path, authority: Authority) -> None:
    with Server(tls=authority.context) as server, Faulty(server.port, (Fault(drip_after=0, every_s=0.5),)) as between:
        serve(server, {"p0": photo(0)})
        server.routes["/unsplash/search/photos"] = search(
            {"lake": [offer(server, "p0", "/x", urls={"raw": f"https://{between.netloc}/images/p0"})]}
        )
        file = pipeline(
            tmp_path,
            server,
            want=1,
            total_timeout_s=300,
            connect_timeout_s=100,
            ca_bundle=str(authority.bundle),
            allow_hosts=[server.netloc, between.netloc],
        )
        assert stopped(file, lambda: between.num_connections == 1).returncode == 130


def test_sigterm_ends_a_search_that_drips(tmp_path: Path, authority: Authority) -> None:
    with Server({"/unsplash": dripping(HEAD, bytes(9999), 0.2)}, tls=authority.context) as server:
        file = pipeline(tmp_path, server, want=1, total_timeout_s=300, ca_bundle=str(authority.bundle))
        assert stopped(file, lambda: bool(server.seen)).returncode == 130


def test_enough_is_enough_while_one_host_is_slow(tmp_path: Path) -> None:
    """The last photo comes from whichever host answers; the slow one keeps waiting."""

    def slow(talk: Talk) -> None:
        talk.head(200, {}, 99999)
        talk.closing.wait(60)

    with Server() as server, Server({"/": slow}) as sloth:
        serve(server, {f"p{i}": photo(i) for i in range(3)})
        first = offer(server, "sloth", "/x", urls={"raw": sloth.url("/images/sloth")})
        rest = [offer(server, f"p{i}", f"/images/p{i}") for i in range(3)]
        server.routes["/unsplash/search/photos"] = search({"lake": [first, *rest]})
        file = pipeline(
            tmp_path,
            server,
            want=3,
            total_timeout_s=300,
            read_timeout_s=300,
            allow_hosts=[server.netloc, sloth.netloc],
        )
        done = subprocess.run(
            [sys.executable, "-m", "lhq", "crawl", str(file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=LONGEST_S * 2,
            check=False,
        )
        assert done.returncode == 0
        assert len(kept(tmp_path)) == 3
        assert statuses(file)["sloth"] == ("waiting", "")
