"""A store in Google Cloud Storage: it works like a folder, also if responses fail, are truncated, slow or refused."""

from __future__ import annotations

import os
import subprocess
import sys
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
from tests.lhq.google_storage import google_storage
from tests.lhq.making import RIGHTS, files, painted_store
from tests.lhq.spoilt_bucket import Between, Fault, between
from tests.lhq.store.uploads import (
    a_cut_upload_leaves_what_was_there,
    one_worker_a_store,
    reads_survive_a_corrupted_answer,
    table,
)
from tests.lhq.typed import Lhq
from tests.loopback import Handler, serving_on_loopback

pytest.importorskip("gcsfs", reason="gcsfs is not installed")


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "lhq")
    # gcsfs waits `min(2 ** attempt, 32)` seconds between its six attempts.
    monkeypatch.setattr("gcsfs.retry.min", lambda *_: 0.01, raising=False)
    with google_storage("lhq") as made:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.url)
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        yield "gs://lhq"
        fsspec.get_filesystem_class("gs").clear_instance_cache()


def test_a_remote_store_works_like_a_folder(gcs: str, tmp_path: Path) -> None:
    local = painted_store(tmp_path / "store", 6)
    painted_store(local, 6, first=6, shard=1)
    fsspec.filesystem("gs").put(str(local), f"{gcs}/set", recursive=True)
    remote.check(f"{gcs}/set")
    photos = Shards(f"{gcs}/set", "photos")
    assert photos.numbers() == [0, 1]
    assert photos.read(1).equals(Shards(str(local), "photos").read(1))
    made = {}
    for name, store in (("far", f"{gcs}/set"), ("near", str(local))):
        settings = ExportSettings(to=str(tmp_path / name), variants=("32",), validation=0.25)
        export(store, settings, rights_of=RIGHTS, engine=Local(1))
        made[name] = files(tmp_path / name)
    assert made["far"] == made["near"]


@pytest.mark.parametrize("size_bytes", [10, 12 * 2**20])  # in one call, and in parts
def test_an_interrupted_upload_keeps_the_old_object(gcs: str, size_bytes: int) -> None:
    a_cut_upload_leaves_what_was_there(f"{gcs}/cut-{size_bytes}/000000.parquet", size_bytes)


def test_a_missing_bucket_is_reported(gcs: str) -> None:
    with pytest.raises(StoreError, match="gs://none/set: there is no bucket none"):
        remote.check("gs://none/set")


@pytest.fixture
def spoilt(gcs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """The bucket behind a proxy that spoils nothing yet."""
    with between(urlsplit(os.environ["STORAGE_EMULATOR_HOST"]).netloc) as made:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.url)
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        yield made


@pytest.mark.parametrize("fault", ["busy", "cut", "slow"])
def test_reads_survive_a_corrupted_response(spoilt: Between, fault: Fault) -> None:
    reads_survive_a_corrupted_answer("gs://lhq/set", spoilt, fault)


@pytest.mark.parametrize("fault", ["busy", "skewed"])
def test_a_persistent_fault_is_one_line(spoilt: Between, fault: Fault, tmp_path: Path, lhq: Lhq) -> None:
    Shards("gs://lhq/set", "facts/size").write(0, table())
    spoilt.spoil = lambda method, path, number: fault
    file = tmp_path / "p.toml"
    file.write_text(f'store = "gs://lhq/set"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n')
    done = lhq("status", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lhq: gs://lhq/set: can't be reached (")
    assert done.stderr.count("\n") == 1
    spoilt.heal()
    assert Shards("gs://lhq/set", "facts/size").read(0).equals(table())


def test_refused_credentials_are_one_line(tmp_path: Path) -> None:
    """In a process of its own: pytest captures the library's log."""

    class Refuses(Handler):
        def do_GET(self) -> None:
            self.say(403, {"error": {"code": 403, "message": "no storage.objects.list access"}})

    file = tmp_path / "p.toml"
    file.write_text(f'store = "gs://lhq/set"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n')
    with serving_on_loopback(Refuses) as host:
        environment = {**os.environ, "STORAGE_EMULATOR_HOST": f"http://{host}", "GOOGLE_CLOUD_PROJECT": "lhq"}
        words = [sys.executable, "-m", "lhq", "status", str(file)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lhq: gs://lhq/set: can't be reached (")
    assert "no storage.objects.list access" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("size_bytes", [10, 6 * 2**20])  # in one call, and in parts
def test_a_write_is_complete_or_absent(spoilt: Between, size_bytes: int) -> None:
    fs, path = fsspec.core.url_to_fs(f"gs://lhq/write-{size_bytes}/000000.parquet")
    spoilt.spoil = lambda method, path, number: "busy" if method in {"PUT", "POST"} else None
    with pytest.raises(StoreError, match=r"000000\.parquet: can't be reached"):
        write_atomically(fs, path, lambda sink: sink.write(b"x" * size_bytes))
    spoilt.heal()
    assert not remote.uncached(fs).exists(path)
    write_atomically(fs, path, lambda sink: sink.write(b"z" * size_bytes))
    assert fs.cat(path) == b"z" * size_bytes


def test_one_worker_a_store(gcs: str) -> None:
    one_worker_a_store(f"{gcs}/set")
