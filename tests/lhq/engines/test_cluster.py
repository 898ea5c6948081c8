"""The stages on a cluster of two nodes give the bytes of a single machine, in a folder and a bucket; drivers die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

import lhq
import lhq.filter
from lhq.engines.local import Local
from lhq.engines.ray import Ray
from lhq.errors import ConfigError, StoreError
from lhq.filter import Rule
from lhq.measures.size import Size, SizeSettings
from lhq.records import Lane
from lhq.store.lock import locked
from tests.lhq.engines.conftest import ROOT, pipeline_file
from tests.lhq.making import files


def without_caches(found: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if not name.endswith(".lock")}


def test_a_cluster_writes_the_bytes_that_one_machine_writes(cluster: Any, photos: Path, tmp_path: Path) -> None:
    made = {}
    for name, more in (("here", {}), ("there", {"engine": "ray", "address": cluster.address})):
        shutil.copytree(photos, tmp_path / name / "store")
        pipeline = lhq.load(pipeline_file(tmp_path / name, str(tmp_path / name / "store")))
        filtered = pipeline.filter(**more)
        assert filtered.num_kept == 24
        exported = pipeline.export(**more)
        assert exported.report.num_rows == 24
        made[name] = without_caches(files(tmp_path / name / "store")), files(tmp_path / name / "out")
    assert made["here"][1] == made["there"][1]
    assert made["here"][0] == made["there"][0], "nor is anything left in the store"


def test_nodes_without_the_buckets_keys_are_named(cluster: Any, photos: Path, tmp_path: Path, bucket: str) -> None:
    fsspec.filesystem("s3").put_file(str(photos / "photos" / "000000.parquet"), f"{bucket}/set/photos/000000.parquet")
    file = pipeline_file(tmp_path / "there", f"{bucket}/set")
    words = [sys.executable, "-m", "lhq", "filter", str(file), "--engine", "ray", "--address", cluster.address]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "2 of 2 nodes can't do the work" in done.stderr
    assert "can't be reached" in done.stderr


_DIES = """
import os, signal, sys
import lhq
def die(what, done, of):
    if done >= 2: os.kill(os.getpid(), signal.SIGKILL)
lhq.load(sys.argv[1]).filter(engine="ray", address=sys.argv[2], on_progress=die)
"""


def test_a_driver_that_was_killed_is_started_again(cluster: Any, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "it" / "store")
    file = pipeline_file(tmp_path / "it", str(tmp_path / "it" / "store"))
    words = [sys.executable, "-c", _DIES, str(file), cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "it" / "store" / "verdicts.parquet").exists()
    done = lhq.load(file).filter(engine="ray", address=cluster.address)
    assert (done.num_photos, done.num_kept, len(done.failed)) == (25, 24, 0)
    assert len(list((tmp_path / "it" / "store" / "facts" / "size").glob("*.parquet"))) == 5


def test_two_drivers_on_one_store(photos: Path, tmp_path: Path) -> None:
    pipeline = lhq.load(pipeline_file(tmp_path / "it", str(photos)))
    with locked(str(photos), "filter"), pytest.raises(StoreError, match="another filter is at work here"):
        pipeline.filter()


class Weighed(Size):
    """A measure of the GPU lane that needs a file of weights."""

    name = "weighed"
    lane: Lane = "gpu"
    path = ""

    def lacks(self) -> str:
        return "" if Path(self.path).exists() else f"weighed: weights {self.path} are not on disk"


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_weights_that_a_later_pass_needs_are_asked_for_before_the_first(
    cluster: Any, photos: Path, tmp_path: Path, engine: str
) -> None:
    """GPU measures run last, but what they lack is reported before hours of CPU measures."""
    measure = Weighed(SizeSettings())
    measure.path = str(tmp_path / "weights.pt")
    rules = [Rule(Size(SizeSettings()), SizeSettings()), Rule(measure, SizeSettings())]
    works = Ray(address=cluster.address) if engine == "ray" else Local(1)
    with pytest.raises(ConfigError, match=r"weights\.pt are not on disk"):
        lhq.filter.run(str(photos), rules, works)
    assert not (photos / "facts").exists(), "nothing was begun"
    Path(measure.path).touch()
    assert lhq.filter.run(str(photos), rules, works).measured == 10
