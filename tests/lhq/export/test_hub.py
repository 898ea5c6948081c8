"""Pushing to a Hub on loopback, with the command as users type it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lhq.errors import InputError
from lhq.export.hub import check_name
from tests.lhq.hubbing import Hub, hub
from tests.lhq.making import painted_store

ROOT = Path(__file__).parents[3]


def write_pipeline(at: Path, store: Path) -> Path:
    path = at / "p.toml"
    export = '[export]\nvariants = ["32"]\nvalidation = 0.3\nshard_mb = 0.002\n'
    path.write_text(f'store = "{store}"\nqueries = ["lake"]\nwant = 5\n{export}')
    return path


def push(made: Hub, pipeline: Path, *more: str, token: str = "hf_test") -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "HF_ENDPOINT": made.url,
        "HF_TOKEN": token,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(pipeline.parent / "home"),
    }
    words = [sys.executable, "-m", "lhq", "export", str(pipeline), "--push-to-hub", "org/set", *more]
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_pushed_private_in_one_commit_and_again_without_the_old_shards(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 5)
    pipeline = write_pipeline(tmp_path, store)
    with hub() as made:
        done = push(made, pipeline, "--publish", "bytes")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"{made.url}/datasets/org/set"
        assert made.private == {"org/set": True}
        assert made.commits == ["lhq export: 5 photos"]
        out = store / "export"
        assert made.files["org/set"] == {
            str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
        }
        first = set(made.files["org/set"])
        made.files["org/set"]["NOTES.md"] = b"by hand"
        uploads = made.asked["upload"]
        painted_store(store, 12, first=5, shard=1)
        done = push(made, pipeline, "--publish", "bytes")
        assert done.returncode == 0, done.stderr
        now = set(made.files["org/set"])
        assert now - {"NOTES.md"} == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        assert "NOTES.md" in now
        assert first - now, "no old shard to delete: this test shows nothing"
        assert made.asked["upload"] > uploads


def test_what_was_edited_there_is_not_written_over(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 5)
    pipeline = write_pipeline(tmp_path, store)
    with hub() as made:
        assert push(made, pipeline, "--publish", "bytes").returncode == 0
        pushed = made.files["org/set"]
        painted_store(store, 12, first=5, shard=1)
        data = min(name for name in pushed if name.startswith("data/"))
        for names in [{"README.md", "LICENCES.md"}, {"croissant.json"}, {"manifest.parquet"}]:
            edited = {name: pushed[name] + b"\nWords of its owner.\n" for name in names}
            made.files["org/set"] = {**pushed, **edited}
            done = push(made, pipeline, "--publish", "bytes")
            assert (done.returncode, len(made.commits)) == (2, 1), done.stderr
            assert made.files["org/set"] == {**pushed, **edited}
            said = done.stderr.splitlines()[-1]
            assert "delete them there" in said
            assert len(names) == 1 or all(name in said for name in names)
        # As the hint says; a data file that is no longer what was pushed is nobody's to delete.
        made.files["org/set"] = {name: pushed[name] for name in pushed.keys() - {"README.md"}} | {data: b"another"}
        done = push(made, pipeline, "--publish", "bytes")
        assert (done.returncode, len(made.commits)) == (0, 2), done.stderr
        assert made.files["org/set"][data] == b"another"


def test_a_card_of_a_version_without_signatures_is_ours(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 3)
    pipeline = write_pipeline(tmp_path, store)
    with hub() as made:
        assert push(made, pipeline, "--publish", "bytes").returncode == 0
        files = made.files["org/set"]
        signed = files["README.md"]
        files["README.md"] = signed[: signed.index(b"\n<!-- written by")]
        assert push(made, pipeline, "--publish", "bytes").returncode == 2  # this version's manifest: its card is signed
        sink = io.BytesIO()
        pq.write_table(pq.read_table(io.BytesIO(files["manifest.parquet"])).drop_columns(["permits"]), sink)
        was = hashlib.sha256(files["manifest.parquet"]).hexdigest().encode()
        files["manifest.parquet"] = sink.getvalue()
        now = hashlib.sha256(files["manifest.parquet"]).hexdigest().encode()
        files["croissant.json"] = files["croissant.json"].replace(was, now)
        done = push(made, pipeline, "--publish", "bytes")
        assert done.returncode == 0, done.stderr
        assert made.files["org/set"]["README.md"] == signed


def test_an_upload_that_broke_goes_on(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, painted_store(tmp_path / "store", 8))
    with hub() as made:
        made.breaks_after_uploads = 2
        done = push(made, pipeline, "--publish", "bytes")
        assert done.returncode == 1
        assert "run the same command again" in done.stderr.splitlines()[-1]
        assert made.files["org/set"] == {}
        held = len(made.objects)
        assert held >= 1
        made.breaks_after_uploads = None
        tried = made.asked["upload"]
        done = push(made, pipeline, "--publish", "bytes")
        assert done.returncode == 0, done.stderr
        assert made.asked["upload"] - tried == len(made.objects) - held


def test_refusals(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, painted_store(tmp_path / "store", 3))
    with hub() as made:
        done = push(made, pipeline)
        assert (done.returncode, "may not be pushed" in done.stderr) == (2, True)
        done = push(made, pipeline, "--publish", "manifest", token="hf_wrong")
        assert (done.returncode, "refuses to write" in done.stderr) == (2, True), done.stderr
        assert not made.files


@pytest.mark.parametrize("name", ["set", "org/set/more", "../set", "org/", "org/a--b"])
def test_no_repository(name: str) -> None:
    with pytest.raises(InputError, match="is no repository"):
        check_name(name)
