"""A Ray cluster for the tests of this room."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lhq.making import add_shard, photo, scene

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """Two nodes of one core each, as processes of this machine, with the environment of this moment."""
    pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One cluster for the tests of a module: two at once would share Ray's folders."""
    with two_nodes() as made:
        yield made


FILE = """
store = "{store}"
local = "{local}"
queries = ["lake"]
want = 1
[filter.size]
min_side_px = 200
[filter.duplicates]
[filter.text]
[export]
to = "{to}"
variants = ["64", "full"]
"""


def pipeline_file(folder: Path, store: str) -> Path:
    """A pipeline over `store`, exporting into `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / "pipeline.toml"
    path.write_text(FILE.format(store=store, local=folder / "local", to=folder / "out"))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four shards of photos, one with a broken file."""
    for shard in range(4):
        rows = [photo(scene(10 * shard + n, 320, 240), f"{10 * shard + n:04d}") for n in range(6)]
        add_shard(tmp_path / "photos_only", shard, rows)
    add_shard(tmp_path / "photos_only", 4, [photo(scene(99)[:2000], "0099")])
    return tmp_path / "photos_only"
