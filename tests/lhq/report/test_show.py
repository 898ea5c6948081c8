"""One photo with all its facts, in words, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from PIL import Image

from lhq import pipeline
from lhq.cli import cli
from lhq.errors import InputError
from lhq.filter import judge_photos
from lhq.images import decode

ROOT = Path(__file__).parents[3]


def lhq(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "lhq", *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_prints_all_of_one_photo(toml: Path, tmp_path: Path) -> None:
    done = lhq("show", "flickr:p27", str(toml), "--json", "--image", str(tmp_path / "p.jpg"))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["id"] == "flickr:p27"
    assert shown["shard"] == 2
    assert set(shown["verdicts"]) == {"size", "duplicates", "objects", "outliers"}
    assert shown["papers"]["title"] == "Scene 27"
    assert shown["papers"]["fetched_at"].startswith("2026-05-01")
    assert "person" in shown["facts"]["objects"]["classes"] or "bird" in shown["facts"]["objects"]["classes"]
    assert shown["facts"]["outliers"]["log_likelihood"] == shown["verdicts"]["outliers"]["score"]
    with Image.open(tmp_path / "p.jpg") as image:
        image.load()
        assert image.size == (522, 348)

    piped = lhq("show", "flickr:p27", str(toml))
    assert shown["papers"]["sha256"] in piped.stdout, "a pipe gets values whole"

    plain = CliRunner().invoke(cli, ["show", "flickr:p27", str(toml)])
    assert plain.exit_code == 0
    for word in ("flickr:p27", "Scene 27", "log_likelihood", "shard 000002"):
        assert word in plain.output


@pytest.mark.parametrize("edit", [("", ""), ("min_side_px = 260", "min_side_px = 300")])
def test_one_photo_is_judged_as_among_all(toml: Path, tmp_path: Path, edit: tuple[str, str]) -> None:
    """From the last run if its settings were the same, else judged again: always equal to judging all photos."""
    file = tmp_path / "p.toml"
    file.write_text(toml.read_text().replace(*edit))
    loaded = pipeline.load(file)
    judged = judge_photos(loaded.file.store, loaded.rules())
    dropped = judged.table.filter(pc.invert(judged.table["kept"]))["id"].to_pylist()
    assert any("duplicates" in failed for failed in judged.table["failed"].to_pylist())
    for id in [*dropped, judged.table.filter(judged.table["kept"])["id"][0].as_py()]:
        row = judged.table["id"].to_pylist().index(id)
        shown = loaded.show(id).verdicts
        assert list(shown) == list(judged.verdicts)
        for name, given in judged.verdicts.items():
            np.testing.assert_equal(astuple(shown[name]), astuple(given[row]))


def test_draws_what_counts(toml: Path, tmp_path: Path) -> None:
    loaded = pipeline.load(toml)
    shown = loaded.show("flickr:p33")
    loaded.picture(shown, str(tmp_path / "p.jpg"))
    drawn = np.asarray(Image.open(tmp_path / "p.jpg"), np.int16)
    plain = np.asarray(decode(shown.image), np.int16)
    assert drawn.shape == plain.shape
    assert (np.abs(drawn - plain).max(axis=2) > 40).mean() > 0.001


def test_names_an_unknown_photo(toml: Path) -> None:
    with pytest.raises(InputError, match=r"no photo 'flickr:none'.*lhq list"):
        pipeline.load(toml).show("flickr:none")
