"""A store in a bucket: shards, takedown, erasing and export as from a folder. The bucket is a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lhq.engines.local import Local
from lhq.erase import erase
from lhq.errors import ConfigError
from lhq.export import ExportSettings, export
from lhq.shards import Shards
from lhq.takedown import remove
from tests.lhq.making import RIGHTS, files, painted_store


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()  # one of another test would go on with that test's server
        boto3.resource("s3").create_bucket(Bucket="lhq")
        yield "s3://lhq"
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_store_in_a_bucket_is_one_as_in_a_folder(bucket: str, tmp_path: Path) -> None:
    local = painted_store(tmp_path / "store", 6)
    painted_store(local, 6, first=6, shard=1)
    store = f"{bucket}/set"
    fsspec.filesystem("s3").put(str(local), store, recursive=True)
    photos = Shards(store, "photos")
    assert photos.numbers() == [0, 1]
    assert photos.read(1).equals(Shards(str(local), "photos").read(1))
    assert [len(batch) for batch in photos.batches(0, ["image"], rows=4)] == [4, 2]

    def published(of: str, to: str) -> dict[str, str]:
        settings = ExportSettings(to=str(tmp_path / to), variants=("32",), validation=0.25)
        export(of, settings, rights_of=RIGHTS, engine=Local(2))
        return files(tmp_path / to)

    assert published(store, "far") == published(str(local), "near")
    for of in (store, str(local)):
        remove(of, ["flickr:0007"])
        assert erase(of, str(tmp_path / "local")).ids == ("flickr:0007",)
    assert photos.read(1, ["id"])["id"].to_pylist() == [f"flickr:{n:04d}" for n in (6, 8, 9, 10, 11)]
    assert published(store, "far") == published(str(local), "near")
    with pytest.raises(ConfigError, match="remote"):
        export(store, ExportSettings(), rights_of=RIGHTS, engine=Local(2))
