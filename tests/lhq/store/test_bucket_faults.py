"""A bucket that is busy, slow, cuts its answers short or rejects our clock: retried, or reported."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from lhq.engines.local import Local
from lhq.errors import StoreError
from lhq.export import ExportSettings, export
from lhq.store import remote
from lhq.store.atomic_file import write_atomically
from lhq.store.shards import Shards
from tests.lhq.making import RIGHTS, files, painted_store
from tests.lhq.spoilt_bucket import Between, Fault, between
from tests.lhq.store.uploads import reads_survive_a_corrupted_answer, table
from tests.lhq.typed import Lhq


@pytest.fixture
def spoilt(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """The bucket s3://lhq behind a proxy that spoils nothing yet; clients ask few times, to keep tests short."""
    import s3fs

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    with between(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield made


@pytest.mark.parametrize("fault", ["busy", "cut", "slow"])
def test_reads_survive_a_corrupted_response(spoilt: Between, fault: Fault) -> None:
    reads_survive_a_corrupted_answer("s3://lhq/set", spoilt, fault, counts=lambda path: ".parquet" in path)


@pytest.mark.parametrize("fault", ["busy", "cut"])
def test_a_persistent_fault_is_an_error_and_not_an_empty_store(
    spoilt: Between, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_DELAY_S", 0.0)
    facts = Shards("s3://lhq/set", "facts/size")
    facts.write(0, table())
    spoilt.spoil = lambda method, path, number: fault if method == "GET" else None
    with pytest.raises(StoreError, match="s3://lhq/set: can't be reached"):
        facts.numbers()
    with pytest.raises(StoreError, match=r"lhq/set/facts/size/000000\.parquet: can't be reached"):
        facts.read(0)
    spoilt.heal()
    assert facts.read(0).equals(table())


@pytest.mark.parametrize("size_bytes", [10, 12 * 2**20])  # in one call, and in parts
def test_a_write_is_complete_or_absent(spoilt: Between, size_bytes: int) -> None:
    fs, path = fsspec.core.url_to_fs(f"s3://lhq/write-{size_bytes}/000000.parquet")

    def busy(method: str, path: str, number: int) -> Fault | None:
        return "busy" if method == "PUT" else None

    spoilt.spoil = busy
    with pytest.raises(StoreError, match=r"000000\.parquet: can't be reached \(.*educe your request rate"):
        write_atomically(fs, path, lambda sink: sink.write(b"x" * size_bytes))
    spoilt.heal()
    fs.invalidate_cache()
    assert not fs.exists(path)
    write_atomically(fs, path, lambda sink: sink.write(b"whole"))
    spoilt.spoil = busy
    with pytest.raises(StoreError):
        write_atomically(fs, path, lambda sink: sink.write(b"y" * size_bytes))
    spoilt.heal()
    fs.invalidate_cache()
    assert fs.cat(path) == b"whole"
    first = spoilt.asked["PUT"] + 1
    spoilt.spoil = lambda method, path, number: "busy" if method == "PUT" and number == first else None
    write_atomically(fs, path, lambda sink: sink.write(b"z" * size_bytes))
    assert fs.cat(path) == b"z" * size_bytes
    assert ("PUT", "busy") in {(method, fault) for method, _, fault in spoilt.spoilt[-1:]}


def test_an_export_over_a_faulty_connection_is_byte_for_byte_the_same(spoilt: Between, tmp_path: Path) -> None:
    local = painted_store(tmp_path / "store", 6)
    painted_store(local, 6, first=6, shard=1)
    fsspec.filesystem("s3").put(str(local), "s3://lhq/set", recursive=True)
    faults: tuple[Fault, ...] = ("busy", "cut", "slow")
    spoilt.spoil = lambda method, path, number: (
        faults[number // 3 % 3] if number % 3 == 0 and method in {"GET", "HEAD"} else None
    )
    made = {}
    for name, store in (("far", "s3://lhq/set"), ("near", str(local))):
        settings = ExportSettings(to=str(tmp_path / name), variants=("32",), validation=0.25)
        export(store, settings, rights_of=RIGHTS, engine=Local(1))
        made[name] = files(tmp_path / name)
    assert made["far"] == made["near"]
    assert {fault for _, _, fault in spoilt.spoilt} == set(faults)


WRITING = [
    ("crawl", "p.toml"),
    ("filter", "p.toml"),
    ("import", "folder", "own", "p.toml", "--licence", "own"),
    ("rehydrate", "manifest.parquet", "p.toml"),
    ("recheck", "p.toml"),
    ("remove", "p.toml", "flickr:0000"),
    ("remove", "p.toml", "--erase"),
]


@pytest.fixture
def crawled(spoilt: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Between:
    """A store of two photos in the bucket, and a pipeline file for it in the working folder."""
    monkeypatch.chdir(tmp_path)
    fsspec.filesystem("s3").put(str(painted_store(tmp_path / "store", 2)), "s3://lhq/set", recursive=True)
    Path("own").mkdir()
    Path("p.toml").write_text(
        'store = "s3://lhq/set"\nlocal = "local"\nwant = 1\nqueries = ["a"]\n'
        '[source.folder]\npath = "own"\n[filter.size]\n'
    )
    return spoilt


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_read_only_keys_are_reported_before_any_work(crawled: Between, lhq: Lhq, words: tuple[str, ...]) -> None:
    crawled.spoil = lambda method, path, number: "denied" if method in {"PUT", "POST"} else None
    done = lhq(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "Access Denied" in done.stderr
    assert lhq("status", "p.toml").stdout.startswith("candidates 2")


def test_a_login_page_instead_of_a_bucket_is_not_an_empty_store(crawled: Between, lhq: Lhq) -> None:
    crawled.spoil = lambda method, path, number: "page"
    for words in (("status", "p.toml"), *WRITING):
        done = lhq(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("lhq: s3://lhq/set: what answers there is no bucket (it sent text/html); check")


def test_missing_permission_to_delete_is_reported(crawled: Between, lhq: Lhq) -> None:
    assert lhq("filter", "p.toml").returncode == 0
    assert lhq("remove", "p.toml", "flickr:0000").returncode == 0
    crawled.spoil = lambda method, path, number: "denied" if method == "DELETE" else None
    done = lhq("remove", "p.toml", "--erase")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("can't be deleted (Access Denied); give its user the right to delete\n")
    crawled.heal()
    assert "erased: 1 from 1 shards" in lhq("remove", "p.toml", "--erase").stderr


@pytest.mark.parametrize(("fault", "said"), [("moved", "is in region eu-west-1"), ("lost", "doesn't say where")])
def test_a_bucket_of_another_region_is_named(crawled: Between, lhq: Lhq, fault: Fault, said: str) -> None:
    """Without a region in its answer, the library asks for it, is sent on, and asks until Python stops it."""
    crawled.spoil = lambda method, path, number: fault
    for words in (("status", "p.toml"), *WRITING[:2]):
        done = lhq(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("lhq: s3://lhq/set: can't be reached (301, the bucket ")
        assert said in done.stderr
        assert f"the request went to region us-east-1, endpoint {crawled.url}" in done.stderr


def test_a_server_that_takes_requests_and_says_nothing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CHECK_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(StoreError, match=r"s3://lhq/set: can't be reached \(no answer in"):
            remote.check("s3://lhq/set")


def test_a_wrong_clock_is_reported_in_one_line(spoilt: Between, tmp_path: Path, lhq: Lhq) -> None:
    spoilt.spoil = lambda method, path, number: "skewed"
    file = tmp_path / "p.toml"
    file.write_text(f'store = "s3://lhq/set"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n')
    done = lhq("status", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lhq: s3://lhq/set: can't be reached (")
    assert done.stderr.count("\n") == 1
    assert "clock" in done.stderr
