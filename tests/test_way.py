"""The whole way through the commands, every step a process of its own: from queries to a panorama."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

PIPELINE = """
store   = "{store}"
queries = ["mountain lake", "ocean sunset", "desert dunes"]
want    = {want}
[sandbox]
port       = {port}
photos     = {photos}
num_scenes = 90
[source.unsplash]
permission = {{ permits = ["train"], statement = "sandbox: no terms apply" }}
[source.flickr]
[filter.size]
min_side_px = 1024
[filter.duplicates]
[filter.objects]
weights = "sandbox"
[export]
variants   = ["64"]
validation = 0.05
"""


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """One command as a user would give it, without a network and without keys."""
    gone = {"UNSPLASH_ACCESS_KEY", "FLICKR_API_KEY", "FLICKR_API_SECRET"}
    env = {k: v for k, v in os.environ.items() if k not in gone} | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, cwd=ROOT, env=env, check=False
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def written(folder: Path, photos: list[Path], want: int) -> Path:
    path = folder / "way.toml"
    served = json.dumps([str(photo) for photo in photos])
    path.write_text(PIPELINE.format(store=folder / "store", want=want, port=free_port(), photos=served))
    return path


def walk(folder: Path, path: Path) -> dict[str, object]:
    """Run a pipeline file to its panorama, checking every stage; gives the status."""
    run("lhq", "run", path)
    status = json.loads(run("lhq", "status", path, "--json").stdout)
    parts = [sum(status[part].values()) for part in ("waiting", "kept", "failed")]
    assert sum(parts) == status["num_candidates"], "the funnel does not add up"

    rows = datasets.load_dataset(str(folder / "store/export"), cache_dir=str(folder / "cache"))
    images = [image for split in rows.values() for image in split["image"]]
    assert len(images) > 8
    assert {image.size for image in images} == {(64, 64)}
    assert all(split["licence"] and split["page_url"] and split["sha256"] for split in rows.values())
    run("lhq", "verify", folder / "store/export")

    model = folder / "run"
    train = ["alis", "train", "--data", folder / "store/export", "--config", "tiny", "--out", model]
    small = ["--model.channel-base", 256, "--optim.batch", 4, "--run.tick-kimg", 0.008]
    run(*train, *small, "--run.kimg", 0.016)
    run(*train, *small, "--run.kimg", 0.024)
    images_seen = [json.loads(line)["images"] for line in (model / "metrics.jsonl").read_text().splitlines()]
    assert images_seen[-1] == 24, "the second command did not go on where the first stopped"
    assert images_seen == sorted(images_seen), "the second command began again"

    strip = folder / "strip.png"
    run("alis", "panorama", model, "-o", strip, "--frames", 5, "--seed", 3)
    with Image.open(strip) as picture:
        assert picture.size == (5 * 64, 64)
        assert len(picture.convert("L").getcolors(256) or []) > 8, "the panorama is one flat grey"
    return status


def test_painted_scenes_become_a_panorama(tmp_path: Path) -> None:
    path = written(tmp_path, [], want=40)
    status = walk(tmp_path, path)
    assert sum(status["kept"].values()) >= 40  # type: ignore[attr-defined]
    verdicts = run("lhq", "filter", path, "--judge-only").stdout
    assert "duplicates" in verdicts
    assert "objects" in verdicts
    again = run("lhq", "run", path)
    assert "new 0" in again.stderr, "the second run fetched something again"


def test_real_photographs_become_a_panorama(tmp_path: Path, shared: Path) -> None:
    folders = [shared / "photos" / name for name in ("landscapes", "objects", "near_duplicates")]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip("no photographs beside the project")
    status = walk(tmp_path, written(tmp_path, folders, want=60))
    assert sum(status["kept"].values()) >= 50  # type: ignore[attr-defined]
