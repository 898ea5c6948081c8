"""Recipes: files, flags, the shipped configs, and errors in wrong ones."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import alis
from alis.errors import ConfigError
from alis.training import recipe
from alis.training.loop import train
from tests.alis import sets
from tests.alis.training.runs import ROOT, SMALL


def alis_(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "alis", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_dry_run_shows_the_settings_and_errors(data: str) -> None:
    done = alis_(
        "train", "--data", data, "--config", "lhq1024", "--loss.r1-gamma", "5", "--data.no-mirror", "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["config"]["loss"]["r1_gamma"] == 5.0
    assert told["config"]["data"]["mirror"] is False
    assert told["config"]["optim"]["lr_g"] == 0.002
    assert told["data"]["num_images"] == 64
    done = alis_("train", "--data", data, "--config", "lhq265")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'did you mean "lhq256"?' in done.stderr


def test_unknown_settings_get_the_nearest_name_as_hint(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[loss]\nr1_gama = 3\n")
    with pytest.raises(ConfigError, match=r'unknown key "r1_gama"; did you mean "r1_gamma"'):
        recipe.read(str(path))
    path.write_text("[los]\n")
    with pytest.raises(ConfigError, match=r'unknown table "los"; did you mean "loss"'):
        recipe.read(str(path))
    path.write_text("[loss\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        recipe.read(str(path))
    with pytest.raises(ConfigError, match="r1_gamma = -1"):
        recipe.read(None, {"loss.r1_gamma": -1.0})


@pytest.mark.parametrize("name", recipe.shipped_configs())
def test_shipped_configs_are_valid(name: str) -> None:
    assert recipe.read(name).resolved(4).optim.batch


def test_lsun_goes_from_its_lmdb_into_training(tmp_path: Path) -> None:
    """An LMDB in LSUN's format → `lhq import lsun` → export unchanged → a small version of the Tower recipe."""
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "tower_lmdb"), map_size=2**24) as database, database.begin(write=True) as writing:
        for number in range(24):
            buffer = io.BytesIO()
            Image.open(io.BytesIO(sets.scenery(number, 48))).resize((32, 48)).save(buffer, "WEBP")
            writing.put(f"{number:040x}".encode(), buffer.getvalue())
    pipeline = tmp_path / "tower.toml"
    pipeline.write_text(
        f'store = "{tmp_path / "store"}"\nwant = 24\n[filter.size]\nmin_side_px = 16\n'
        f'[export]\nto = "{tmp_path / "set"}"\nvariants = ["full"]\nvalidation = 0.0\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["import", "lsun", str(tmp_path / "tower_lmdb")], ["filter"], ["export"]):
        line = [sys.executable, "-m", "lhq", *words, str(pipeline)]
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    config = recipe.read("tower256", {**SMALL, "run.kimg": 0.016, "model.num_half_res": 1})
    assert config.data.fit == "crop"
    last = train(config, str(tmp_path / "set"), tmp_path / "run", device="cpu")
    assert alis.load(last).config.num_half_res == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["num_images"] == 24


def test_every_flag_of_the_recipe_says_what_it_does_and_its_default() -> None:
    told = {key: (default, text) for key, _, default, text in recipe.flags()}
    assert not [key for key, (_, text) in told.items() if not text]
    assert told["model.num_half_res"][0] == 4  # the recipe's, not the bare network's
    shown = CliRunner().invoke(importlib.import_module("alis.cli.train").command, ["--help"], terminal_width=200).output
    assert "Weight γ of R1, the squared gradient of the discriminator at real pictures; 0: off.  [10]" in shown
    assert "--model.num-half-res INTEGER" in shown
    assert "Undefined" not in shown
