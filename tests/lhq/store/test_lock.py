"""A store's locks in a folder and in a bucket: a second process is refused, a dead one replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest

from lhq.errors import StoreError
from lhq.store import lock
from lhq.store.lock import locked

ROOT = Path(__file__).parents[3]
_HOLDS = """
import sys
from lhq.store.lock import locked
with locked(sys.argv[1], "filter"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/set"


def holding(store: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, store], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_lock_is_refused_naming_the_first_process(store: str) -> None:
    process = holding(store)
    with pytest.raises(StoreError, match=f"another filter is at work here .*process {process.pid}"):
        locked(store, "filter").__enter__()
    with locked(store, "export"):  # another kind of work is not in its way
        pass
    process.communicate("")
    with locked(store, "filter"):
        pass


def test_the_lock_of_a_killed_process_is_free(store: str) -> None:
    process = holding(store)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(store, "filter"):
        pass


def test_only_one_of_many_concurrent_attempts_gets_the_lock(store: str) -> None:
    got, barrier = [], threading.Barrier(6)

    def try_it() -> None:
        barrier.wait()
        try:
            with locked(store, "filter"):
                got.append(1)
                tried.wait()
        except StoreError:
            got.append(0)

    tried = threading.Event()
    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(got) < 6:
        threading.Event().wait(0.01)
    tried.set()
    for thread in threads:
        thread.join()
    assert sum(got) == 1


def left_by(bucket: str, owner: dict[str, object]) -> str:
    fsspec.filesystem("s3").pipe_file(f"{bucket}/set/filter.lock", json.dumps(owner).encode())
    return f"{bucket}/set"


def test_another_machines_lock_is_respected_until_it_is_stale(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = left_by(bucket, {"host": "elsewhere", "pid": os.getpid(), "token": "x"})
    with pytest.raises(StoreError, match="on elsewhere"):
        locked(store, "filter").__enter__()
    monkeypatch.setattr(lock, "STALE_S", -1.0)
    with locked(store, "filter"):
        owner = json.loads(fsspec.filesystem("s3").cat_file(f"{bucket}/set/filter.lock"))
        assert owner["host"] == socket.gethostname()
    assert not fsspec.filesystem("s3").exists(f"{bucket}/set/filter.lock")


def test_a_lock_that_was_taken_over_is_left_to_its_new_owner(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 2.0)
    fs, path = fsspec.filesystem("s3"), f"{bucket}/set/filter.lock"
    with locked(f"{bucket}/set", "filter"):
        fs.pipe_file(path, b"{}")
        threading.Event().wait(4.5)  # two beats
        assert fs.cat_file(path) == b"{}"
    assert fs.exists(path)


def test_the_owner_renews_its_lock(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.1)
    fs, path = fsspec.filesystem("s3"), f"{bucket}/set/filter.lock"
    with locked(f"{bucket}/set", "filter"):
        first = fs.modified(path)
        until = time.monotonic() + 10
        while fs.modified(path) == first:  # the bucket tells whole seconds
            assert time.monotonic() < until
            threading.Event().wait(0.1)
            fs.invalidate_cache(path)


def test_a_missing_bucket_is_reported(bucket: str) -> None:
    with pytest.raises(StoreError, match=r"can't be (read|written)"):
        locked("s3://no-such-bucket-here/set", "filter").__enter__()
