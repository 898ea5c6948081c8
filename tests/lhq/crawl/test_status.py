"""The funnel adds up whatever happens to the store: imports, takedowns, lost shards, a read-only disk."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lhq.crawl import FRONTIER
from lhq.crawl.frontier import Frontier
from tests.lhq.bad_server import Server
from tests.lhq.making import scene
from tests.lhq.services import photo, pipeline, serve
from tests.lhq.typed import Lhq

ROOT = Path(__file__).parents[3]


def funnel(lhq: Lhq, file: Path) -> dict[str, Any]:
    """What `lhq status --json` says, after checking that every sum in it is exact."""
    done = lhq("status", file, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    parts = {status: found[f"num_{status}"] for status in ("kept", "waiting", "failed")}
    assert found["num_candidates"] == sum(parts.values())
    assert {status: sum(found[status].values()) for status in parts} == parts
    assert {status: sum(each.get(status, 0) for each in found["sources"].values()) for status in parts} == parts
    if found["judged"] is not None:
        assert found["num_unjudged"] >= 0
        assert sum(found["judged"].values()) + found["num_unjudged"] + found["num_gone"] == parts["kept"]
    listed = [json.loads(line) for line in lhq("list", file, "--json").stdout.splitlines()]
    assert {status: sum(each["status"] == status for each in listed) for status in parts} == parts
    return found


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A pipeline file over a store that was imported and filtered: six photos, one of them too small."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(6):
        (pictures / f"p{number}.jpg").write_bytes(scene(number, 300 if number else 100, 200 if number else 80))
    file = tmp_path / "own.toml"
    file.write_text(f'store = "{tmp_path}/store"\nwant = 9\nqueries = ["a"]\n[filter.size]\nmin_side_px = 150\n')
    return file


def test_imported_photos_have_a_funnel_without_any_crawl(own: Path, tmp_path: Path, lhq: Lhq) -> None:
    assert lhq("status", own).returncode == 2
    done = lhq("import", "folder", tmp_path / "pictures", own, "--licence", "own", "--author", "me")
    assert done.returncode == 0, done.stderr
    assert funnel(lhq, own)["kept"] == {"own": 6}
    assert lhq("filter", own, "--workers", 1).returncode == 0
    found = funnel(lhq, own)
    assert (found["judged"], found["num_unjudged"]) == ({"": 5, "size": 1}, 0)
    listed = lhq("list", own).stdout.splitlines()
    assert listed[1] == "folder:pictures/p1.jpg\tkept\t\t0"
    assert lhq("list", own, "--status", "failed").stdout == ""
    assert lhq("list", own, "--source", "flickr").stdout == ""
    assert lhq("remove", own, "folder:pictures/p1.jpg").returncode == 0
    assert funnel(lhq, own)["judged"] == {"": 4, "size": 1}


def test_the_funnel_adds_up_after_takedowns_and_lost_shards(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(8)})
        file = pipeline(tmp_path, server, want=6)
        file.write_text(file.read_text() + "\n[filter.size]\nmin_side_px = 40\n")
        assert lhq("crawl", file).returncode == 0
        assert lhq("filter", file, "--workers", 1).returncode == 0
        assert funnel(lhq, file)["judged"] == {"": 6}

        done = lhq("remove", file, "unsplash:p1", "unsplash:p7")
        assert "taken down: 2" in done.stderr
        found = funnel(lhq, file)
        assert (found["num_kept"], found["judged"], found["failed"]) == (5, {"": 5}, {"removed": 2})

        done = lhq("remove", file, "--erase")
        assert done.stderr.startswith("erased: 1 from 1 shards; an earlier export keeps its copies until the next"), (
            "nothing was taken down by this command, and it doesn't say so"
        )
        assert funnel(lhq, file)["judged"] == {"": 5}

        assert lhq("crawl", file).returncode == 0
        assert funnel(lhq, file)["num_unjudged"] == 1

        first = tmp_path / "store" / "photos" / "000000.parquet"
        shutil.move(first, tmp_path / "moved")
        found = funnel(lhq, file)
        assert (found["num_gone"], found["judged"], found["num_unjudged"]) == (5, {}, 1)
        assert "gone                5 lay in shards that are not in photos/ any more" in lhq("status", file).stdout


def test_a_pipe_that_has_enough_is_no_failure(own: Path, tmp_path: Path, lhq: Lhq) -> None:
    done = lhq("import", "folder", tmp_path / "pictures", own, "--licence", "own", "--author", "me")
    assert done.returncode == 0, done.stderr
    reads, writes = os.pipe()
    os.close(reads)
    listed = subprocess.run(
        [sys.executable, "-m", "lhq", "list", str(own)],
        cwd=ROOT,
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(writes)
    assert (listed.returncode, listed.stderr) == (0, "")


def test_a_rate_is_only_told_while_photos_come(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / FRONTIER)
    frontier.close()
    for age_s, is_told in ((5, True), (300, False)):
        with sqlite3.connect(tmp_path / FRONTIER) as db:
            db.execute("DELETE FROM beats")
            db.executemany(
                "INSERT INTO beats VALUES (strftime('%s') - ?, 100)", [(age_s,), (age_s + 10,), (age_s + 20,)]
            )
        db.close()
        frontier = Frontier(tmp_path / FRONTIER, read_only=True)
        assert (frontier.rate() is not None) == is_told
        frontier.close()


def test_a_store_that_can_only_be_read_can_be_looked_at(own: Path, tmp_path: Path) -> None:
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if drop:
        probe = [*drop, sys.executable, "-c", "import lhq.cli"]
        if shutil.which("setpriv") is None or subprocess.run(probe, env=environment, check=False).returncode:
            pytest.skip("root can write every folder, and setpriv can't change that here")
    store = tmp_path / "store"
    store.mkdir()
    frontier = Frontier(store / FRONTIER)
    frontier.close()
    store.chmod(0o555)
    try:
        done = subprocess.run(
            [*drop, sys.executable, "-m", "lhq", "status", str(own)],
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=False,
            env=environment,
        )
    finally:
        store.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("candidates 0 = kept 0")
