"""A store on the Hugging Face Hub, a dataset repository: every shard is a commit. The Hub is a server on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lhq.errors import StoreError
from lhq.store import remote
from lhq.store.shards import Shards
from tests.lhq.hubbing import Hub, hub
from tests.lhq.making import files, painted_store
from tests.lhq.store.uploads import a_cut_upload_leaves_what_was_there, one_worker_a_store

ROOT = Path(__file__).parents[3]
STORE = "hf://datasets/org/set"
FILE = """
store = "{store}"
local = "{local}"
queries = ["lake"]
want = 1
[filter.size]
min_side_px = 20
[export]
to = "{to}"
variants = ["32"]
"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with the empty repository org/set."""
    with hub() as found:
        found.files["org/set"], found.private["org/set"] = {}, True
        options = {
            "endpoint": found.url,
            "token": found.token,
            "use_listings_cache": False,
            "skip_instance_cache": True,
        }
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # that storage has no stand-in
        monkeypatch.setitem(fsspec.config.conf, "hf", options)
        yield found


def test_a_remote_store_works_like_a_folder(made: Hub, tmp_path: Path) -> None:
    local = painted_store(tmp_path / "store", 6)
    painted_store(local, 6, first=6, shard=1)
    remote.check(STORE)
    photos = Shards(STORE, "photos")
    assert photos.numbers() == []
    for number in (0, 1):
        photos.write(number, Shards(str(local), "photos").read(number))
    assert photos.numbers() == [0, 1]
    assert photos.read(1).equals(Shards(str(local), "photos").read(1))
    assert made.files["org/set"].keys() == {"photos/000000.parquet", "photos/000001.parquet"}


def test_filter_and_export_give_the_same_as_from_a_folder(made: Hub, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": made.url,
        "HF_TOKEN": made.token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
    }
    folder = tmp_path / "store"
    shard = shutil.copytree(painted_store(tmp_path / "painted", 6) / "photos", folder / "photos") / "000000.parquet"
    made.files["org/set"]["photos/000000.parquet"] = shard.read_bytes()
    out = {}
    for name, store in (("far", STORE), ("near", str(folder))):
        file = tmp_path / f"{name}.toml"
        file.write_text(FILE.format(store=store, local=tmp_path / "local", to=tmp_path / name))
        for stage in ("filter", "export"):
            words = [sys.executable, "-m", "lhq", stage, str(file)]
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "B/s" not in done.stderr, "no bars of the library"
        out[name] = files(tmp_path / name)
    assert out["far"] == out["near"]
    assert "verdicts.parquet" in made.files["org/set"]
    assert any(path.startswith("facts/size/") for path in made.files["org/set"])


def test_an_interrupted_upload_keeps_the_old_object(made: Hub) -> None:
    a_cut_upload_leaves_what_was_there(f"{STORE}/cut/000000.parquet", 2**20)


def test_a_missing_repository_is_reported(made: Hub) -> None:
    with pytest.raises(StoreError, match="hf://datasets/org/none: there is no bucket datasets/org/none"):
        remote.check("hf://datasets/org/none")


def test_one_worker_a_store(made: Hub) -> None:
    one_worker_a_store(STORE)
    assert not made.files["org/set"]
