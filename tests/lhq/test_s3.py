"""A store in a bucket: shards, takedown, erasing and export as from a folder. The bucket is a server on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import fsspec
import pytest

from lhq.engines.local import Local
from lhq.erase import erase
from lhq.errors import ConfigError
from lhq.export import ExportSettings, export
from lhq.shards import Shards, write_whole
from lhq.takedown import remove
from tests.lhq.making import RIGHTS, files, painted_store


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


@pytest.mark.parametrize("size_bytes", [10, 12 * 2**20])  # in one call, and in parts
def test_an_upload_that_is_cut_leaves_what_was_there(bucket: str, size_bytes: int) -> None:
    fs, path = fsspec.core.url_to_fs(f"{bucket}/cut-{size_bytes}/000000.parquet")

    def cut(sink: IO[bytes]) -> None:
        sink.write(b"x" * size_bytes)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(fs, path, cut)
    fs.invalidate_cache()
    assert not fs.exists(path)
    write_whole(fs, path, lambda sink: sink.write(b"whole"))
    with pytest.raises(KeyboardInterrupt):
        write_whole(fs, path, cut)
    assert fs.cat(path) == b"whole"
