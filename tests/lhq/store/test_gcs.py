"""A store in Google's storage, by its emulator on loopback (`pip install gcsfs gcp-storage-emulator`, not in `dev`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lhq.engines.local import Local
from lhq.errors import StoreError
from lhq.export import ExportSettings, export
from lhq.store import remote
from lhq.store.shards import Shards
from tests.lhq.making import RIGHTS, files, painted_store
from tests.lhq.store.uploads import a_cut_upload_leaves_what_was_there

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("gcsfs") and importlib.util.find_spec("gcp_storage_emulator")),
    reason="gcsfs and gcp-storage-emulator are not installed",
)


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    from gcp_storage_emulator.server import create_server

    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "lhq")
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="lhq")
    server.start()
    try:
        port = server._api._httpd.server_port
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        yield "gs://lhq"
    finally:
        server.stop()


def test_a_store_is_one_as_in_a_folder(gcs: str, tmp_path: Path) -> None:
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
def test_an_upload_that_is_cut_leaves_what_was_there(gcs: str, size_bytes: int) -> None:
    a_cut_upload_leaves_what_was_there(f"{gcs}/cut-{size_bytes}/000000.parquet", size_bytes)


def test_a_bucket_that_is_not_there_is_said(gcs: str) -> None:
    with pytest.raises(StoreError, match="gs://none/set: there is no bucket none"):
        remote.check("gs://none/set")
