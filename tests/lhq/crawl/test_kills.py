"""Kills at random moments: no photo lost, none twice, and only requests in flight repeated.

A small process imports lhq once and forks a crawl on demand, so that thirty kills cost seconds; each crawl is the
real command in a process of its own, killed with SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lhq import pipeline as way
from lhq.errors import StoreError
from lhq.store.shards import Shards
from tests.lhq.bad_server import Server, Talk, answer
from tests.lhq.services import kept, photo, pipeline, serve

ROOT = Path(__file__).parents[3]
PER_HOST = 4

NURSERY = """
import os, sys
import pandas, lhq.crawl.shard_file, lhq.crawl.spool
import lhq.cli, lhq.cli.crawl, lhq.pipeline, lhq.sources.unsplash
lhq.crawl.spool.MAX_PHOTOS = 20
lhq.crawl.shard_file.ROW_GROUP_BYTES = 4000
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        sys.argv = ["lhq", "crawl", line.strip()]
        lhq.cli.main()
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """Give it a pipeline file a line; it answers with the crawl's process number, then with its exit code."""
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(nursery: subprocess.Popen[str], path: Path) -> int:
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{path}\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


def end(nursery: subprocess.Popen[str]) -> int:
    assert nursery.stdout is not None
    return int(nursery.stdout.readline())


def wait_until(server: Server, num_seen: int) -> None:
    """Until the server has seen so many requests, or no more come."""
    until = time.monotonic() + 5
    while len(server.seen) < num_seen and time.monotonic() < until:
        time.sleep(0.002)


def num_kept(path: Path) -> int:
    """As another process sees it; 0 before the crawl has begun."""
    try:
        return way.load(path).status().num_kept
    except StoreError:
        return 0


def test_thirty_kills(tmp_path: Path, nursery: subprocess.Popen[str]) -> None:
    photos = {f"p{i}": photo(i) for i in range(240)}
    random.seed(4)
    kills = 0
    with Server() as server:
        serve(server, photos)
        for name in photos:
            plain = server.routes[f"/images/{name}"]

            def rationed(talk: Talk, plain: object = plain) -> None:
                while kills < 30 and sum(server.answered[f"/images/{one}"] for one in photos) >= 8 * (kills + 1):
                    if talk.closing.wait(0.01):
                        return
                plain(talk)  # type: ignore[operator]

            server.routes[f"/images/{name}"] = rationed  # so that all thirty come before the end
        path = pipeline(tmp_path, server, want=240, per_host=PER_HOST)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            child = start(nursery, path)
            if kills < 30:
                if kills % 5:  # a moment in the midst of its work
                    wait_until(server, len(server.seen) + random.randrange(1, 8))
                    time.sleep(random.uniform(0.0, 0.02))
                else:  # a moment of its youth
                    time.sleep(random.uniform(0.0, 0.2))
                os.kill(child, signal.SIGKILL)
                kills += 1
            code = end(nursery)
            for number in Shards(str(tmp_path / "store"), "photos").numbers():
                pq.read_table(Shards(str(tmp_path / "store"), "photos").path(number))
        assert (code, kills) == (0, 30)
        rows = kept(tmp_path).to_pylist()
        assert Counter(row["source_id"] for row in rows) == Counter(photos.keys()), "none lost, none twice"
        assert {row["source_id"]: row["image"] for row in rows} == photos
        # Each kill may cost what was on the wire: one photo a connection, and one page.
        extra = sum(server.answered[f"/images/{name}"] - 1 for name in photos)
        assert extra <= kills * (PER_HOST + 2), f"{extra} photos were fetched again"
        status = way.load(path).status()
        assert (status.num_candidates, status.num_kept, status.num_waiting) == (240, 240, 0)
        assert list((tmp_path / "store/spool").iterdir()) == []


@pytest.mark.parametrize("torn", ["photos", "spool"])
def test_what_a_power_cut_took_is_found_missing_and_fetched_again(
    tmp_path: Path, nursery: subprocess.Popen[str], torn: str
) -> None:
    """The spool's unsynced end is lost: photos that the frontier lists as kept but that are missing wait again."""
    photos = {f"p{i}": photo(i) for i in range(12)}
    with Server() as server:
        serve(server, photos)
        server.routes["/images/p11"] = lambda talk: talk.closing.wait(30) and None
        path = pipeline(tmp_path, server, want=12, per_host=1)
        child = start(nursery, path)
        while num_kept(path) < 11:
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        assert end(nursery) == -signal.SIGKILL
        (file,) = (tmp_path / "store/spool").glob(f"*.{torn}")
        os.truncate(file, file.stat().st_size * 2 // 3)
        server.routes["/images/p11"] = answer(photos["p11"])
        asked = Counter(server.paths())
        done = way.load(path).crawl()
        told = re.fullmatch(r"(\d+) photos did not survive the last stop and are fetched again", done.notes[0])
        assert told is not None, done.notes
        num_lost = int(told[1])
        assert 2 <= num_lost <= 5
        assert (done.num_new, done.num_kept) == (num_lost + 1, 12)
        again = Counter(server.paths()) - asked
        assert sum(again[f"/images/{name}"] for name in photos) == num_lost + 1
        assert {row["source_id"]: row["image"] for row in kept(tmp_path).to_pylist()} == photos


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_cleanly(tmp_path: Path, nursery: subprocess.Popen[str], sign: signal.Signals) -> None:
    photos = {f"p{i}": photo(i) for i in range(60)}
    with Server() as server:
        serve(server, photos)

        is_signalled = threading.Event()

        def slow(talk: Talk) -> None:
            talk.closing.wait(0.05)
            while sum(server.answered.values()) > 20 and not is_signalled.is_set():
                if talk.closing.wait(0.01):
                    return
            talk.send(200, photos[talk.request.path.split("/")[-1]])

        for name in photos:
            server.routes[f"/images/{name}"] = slow
        path = pipeline(tmp_path, server, want=60, per_host=2)
        child = start(nursery, path)
        while sum(name.startswith("/images/") for name in server.paths()) < 5:
            time.sleep(0.01)
        os.kill(child, sign)
        is_signalled.set()
        assert end(nursery) == 130
        first = kept(tmp_path).num_rows
        assert 3 <= first < 60
        start(nursery, path)
        assert end(nursery) == 0
        assert kept(tmp_path).num_rows == 60
        asked = Counter(server.paths())
        assert max(asked[f"/images/{name}"] for name in photos) == 1, "what was under way was finished"


def test_a_second_signal_stops_at_once(tmp_path: Path, nursery: subprocess.Popen[str]) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        server.routes["/images/a"] = lambda talk: talk.closing.wait(30) and None
        path = pipeline(tmp_path, server, want=1, read_timeout_s=60, total_timeout_s=60)
        child = start(nursery, path)
        while "/images/a" not in server.paths():
            time.sleep(0.01)
        began = time.monotonic()
        assert nursery.stdout is not None
        while not select.select([nursery.stdout], [], [], 0.3)[0]:  # two that come too close may count as one
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGINT)
        assert end(nursery) == 130
        assert time.monotonic() - began < 25, "the answer was not waited for"
