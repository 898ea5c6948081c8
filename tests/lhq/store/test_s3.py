"""A store in a bucket: shards, takedown, erasing and export as from a folder. The bucket is a server on loopback."""

from __future__ import annotations

import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry

from lhq.engines.local import Local
from lhq.errors import ConfigError
from lhq.export import ExportSettings, export
from lhq.store.shards import Shards
from lhq.takedown.erase import erase
from lhq.takedown.remove import remove
from tests.lhq.making import RIGHTS, files, painted_store
from tests.lhq.store.uploads import a_cut_upload_leaves_what_was_there
from tests.lhq.typed import Lhq


def test_a_store_in_a_bucket_works_like_a_folder(bucket: str, tmp_path: Path) -> None:
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
def test_an_interrupted_upload_keeps_the_old_object(bucket: str, size_bytes: int) -> None:
    a_cut_upload_leaves_what_was_there(f"{bucket}/cut-{size_bytes}/000000.parquet", size_bytes)


@pytest.mark.parametrize("words", [["status"], ["crawl"], ["filter"], ["export"], ["report"], ["remove", "flickr:1"]])
def test_missing_credentials_are_one_line(
    tmp_path: Path, lhq: Lhq, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    file = tmp_path / "p.toml"
    file.write_text(
        f'store = "s3://bucket/set"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n'
        f'[source.folder]\npath = "{tmp_path}"\n[filter.size]\n[export]\nto = "{tmp_path}/out"\n'
    )
    done = lhq(words[0], file, *words[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lhq: s3://bucket/set: can't be reached (NoCredentialsError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("sq3://bucket/set", "unknown kind of address; a folder, or s3://…"),
        ("gs://bucket/set", "pip install 'lhq[gs]'"),
    ],
)
def test_an_unknown_url_scheme_is_one_line(
    tmp_path: Path, lhq: Lhq, monkeypatch: pytest.MonkeyPatch, store: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(_registry, "gs", raising=False)  # another test may have used it
    file = tmp_path / "p.toml"
    file.write_text(f'store = "{store}"\nlocal = "{tmp_path}/local"\nwant = 1\nqueries = ["a"]\n')
    done = lhq("status", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
