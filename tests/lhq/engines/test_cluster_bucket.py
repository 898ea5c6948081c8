"""A store in a bucket, filtered and exported by a cluster whose nodes share no disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import fsspec

import lhq
from tests.lhq.engines.conftest import ROOT, pipeline_file, two_nodes
from tests.lhq.making import files


def test_a_store_in_a_bucket_needs_no_shared_disk(photos: Path, tmp_path: Path, bucket: str) -> None:
    fs = fsspec.filesystem("s3")
    for path in sorted((photos / "photos").iterdir()):
        fs.put_file(str(path), f"{bucket}/set/photos/{path.name}")
    file = pipeline_file(tmp_path / "there", f"{bucket}/set")
    with two_nodes() as cluster:
        for stage in ("filter", "export"):
            words = [sys.executable, "-m", "lhq", stage, str(file), "--engine", "ray", "--address", cluster.address]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    shutil.copytree(photos, tmp_path / "here" / "store")
    pipeline = lhq.load(pipeline_file(tmp_path / "here", str(tmp_path / "here" / "store")))
    pipeline.filter()
    pipeline.export()
    assert files(tmp_path / "here" / "out") == files(tmp_path / "there" / "out")
    fs.invalidate_cache()
    left = {path.split("/")[2] for path in fs.find(f"{bucket}/set")}
    assert left == {"photos", "facts", "verdicts.parquet"}, "the work is cleared away"
