"""A missing bucket, refused keys, answers that break off: reported in one line, or retried."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from lhq.errors import StoreError
from lhq.store import remote
from lhq.store.shards import Shards
from tests.lhq.typed import Lhq

COMMANDS = [
    ("status",),
    ("list",),
    ("crawl",),
    ("filter",),
    ("report", "-o", "report.html"),
    ("show",),
    ("rights",),
    ("export",),
    ("remove", "flickr:1"),
    ("recheck",),
    ("import", "folder"),
    ("rehydrate",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_reports_a_missing_bucket_at_once(
    bucket: str, tmp_path: Path, lhq: Lhq, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "p.toml"
    file.write_text(
        f'store = "s3://no-such-bucket/set"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n'
        f'[source.folder]\npath = "{tmp_path}"\n[filter.size]\n[export]\nto = "{tmp_path}/out"\n'
    )
    given = {
        "show": ["show", "flickr:1", file],
        "import": [*words, tmp_path, file, "--licence", "own"],
        "rehydrate": ["rehydrate", tmp_path / "manifest.parquet", file],
    }.get(words[0], [words[0], file, *words[1:]])
    done = lhq(*given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lhq: s3://no-such-bucket/set: there is no bucket no-such-bucket")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


class Breaking:
    """A bucket's filesystem whose answers break off a few times: the real one, spoilt on the way."""

    protocol = ("memory",)

    def __init__(self, num: int, how: BaseException | int) -> None:
        self.real, self.left, self.how, self.asked = fsspec.filesystem("memory"), num, how, 0

    def invalidate_cache(self) -> None:
        self.real.invalidate_cache()

    def info(self, path: str) -> dict[str, object]:
        found: dict[str, object] = self.real.info(path)
        return found

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        self.asked += 1
        data: bytes = self.real.cat_file(path, start=start, end=end)
        if self.left:
            self.left -= 1
            if isinstance(self.how, int):
                return data[: self.how]
            raise self.how
        return data


@pytest.mark.parametrize("how", [0, 3, ConnectionResetError("reset"), RuntimeError("ClientPayloadError")])
def test_a_failing_read_is_retried_then_reported(monkeypatch: pytest.MonkeyPatch, how: BaseException | int) -> None:
    monkeypatch.setattr(remote, "_DELAY_S", 0.0)
    fsspec.filesystem("memory").pipe_file("/broken/a", bytes(range(200)))
    with remote.open_file(Breaking(remote.ATTEMPTS - 1, how), "/broken/a") as file:
        assert file.read() == bytes(range(200))
        assert file.seek(-10, 2) == 190
        assert file.read() == bytes(range(190, 200))
    with remote.open_file(Breaking(remote.ATTEMPTS, how), "/broken/a") as file, pytest.raises(StoreError) as caught:
        file.read()
    assert "/broken/a: can't be reached" in str(caught.value)
    with pytest.raises(FileNotFoundError):
        remote.open_file(Breaking(0, 0), "/broken/none")


def test_a_shard_in_a_bucket_reads_like_one_in_a_folder(bucket: str, tmp_path: Path) -> None:
    table = pa.table({"id": [str(n) for n in range(5000)], "error": [None] * 5000})
    for store in (f"{bucket}/facts", str(tmp_path)):
        Shards(store, "facts/size").write(0, table)
    assert Shards(f"{bucket}/facts", "facts/size").read(0).equals(Shards(str(tmp_path), "facts/size").read(0))


def test_objects_written_by_others_are_seen(bucket: str) -> None:
    """The bucket's library remembers listings, sizes included."""
    import boto3

    def others_write(name: str, data: bytes) -> None:
        boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).put_object(Bucket="lhq", Key=name, Body=data)

    facts = Shards(f"{bucket}/set", "facts")
    size = Shards(f"{bucket}/set", "facts/size")
    others_write("set/facts/", b"")  # as consoles stand for a folder
    others_write("set/facts/size/000000.parquet", b"short")
    assert remote.list_names(facts.fs, facts.root) == ["size"]
    assert size.numbers() == [0]
    size.fs.ls(size.root)  # as any other part of the process may
    facts.fs.ls(facts.root)
    others_write("set/facts/size/000000.parquet", b"longer than before")
    others_write("set/facts/size/000001.parquet", b"new")
    others_write("set/facts/text/000000.parquet", b"new")
    with size.open(0) as file:
        assert file.read() == b"longer than before"
    assert size.exists(1)
    assert size.numbers() == [0, 1]
    assert remote.list_names(facts.fs, facts.root) == ["size", "text"]
    assert remote.list_names(facts.fs, "lhq/set/none") == []


def test_refused_credentials_are_not_an_empty_store(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.core.url_to_fs(bucket)[0]

    def refuse(*words: object, **more: object) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(fs, "call_s3", refuse)
    with pytest.raises(StoreError, match=r"can't be reached \(PermissionError: Forbidden\)"):
        remote.check(bucket)


@pytest.mark.parametrize("store", ["hf://datasets/me/set", "hf://buckets/me/set"])
def test_an_unreachable_hub_is_one_line(tmp_path: Path, lhq: Lhq, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # a port that nobody listens on
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    file = tmp_path / "p.toml"
    file.write_text(f'store = "{store}"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n')
    done = lhq("status", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"lhq: {store}: can't be reached (")
    assert done.stderr.count("\n") == 1
