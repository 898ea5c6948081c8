"""The README's recipes: every line is a command that takes what it is given, and each goes as far as it can offline."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import alis.cli
import lhq.cli
from tests.lhq.hubbing import hub
from tests.lhq.making import painted_store

ROOT = Path(__file__).parents[1]
PROGRAMS = {"lhq": lhq.cli.cli, "alis": alis.cli.cli}
RECIPES = ("build", "own", "published", "publish")


def lines(recipe: str) -> list[list[str]]:
    """The commands of one recipe, as words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- recipe: {recipe} -->\n```\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"no recipe {recipe}"
    words = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    return [line for line in words if line and line[0] in PROGRAMS]


def run(words: list[str], place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr}"
    return done


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_line_is_a_command_that_takes_what_it_is_given(recipe: str) -> None:
    commands = lines(recipe)
    assert len(commands) >= 2
    for program, name, *words in commands:
        group = PROGRAMS[program]
        command = group.get_command(click.Context(group), name)
        assert command is not None, f"{program} {name}"
        command.make_context(name, list(words))  # click refuses unknown options and missing arguments


def test_building_says_what_it_will_cost(tmp_path: Path) -> None:
    dry = next(words for words in lines("build") if "--dry-run" in words)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    done = run(dry, tmp_path, FLICKR_API_KEY="key", FLICKR_API_SECRET="secret")
    assert "calls" in done.stdout + done.stderr


def test_the_published_checkpoint_opens_and_paints(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot.pkl").symlink_to(shared / "fixtures" / "alis-64" / "snapshot.pkl")
    for words in lines("published"):
        run(words, tmp_path)
    assert (tmp_path / "strip.png").stat().st_size > 1000
    assert (tmp_path / "bridge.png").stat().st_size > 1000


def test_a_set_is_published(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    store = painted_store(tmp_path / "data" / "flickr-cc", 6)
    (tmp_path / "pipelines" / "flickr-cc.toml").write_text(
        f'store = "{store}"\nqueries = ["lake"]\nwant = 6\n[source.flickr]\n[export]\nvariants = ["32"]\n'
    )
    with hub() as made:
        there = {"HF_ENDPOINT": made.url, "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path / "home")}
        for words in lines("publish"):
            run(words, tmp_path, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", **there)
        assert "manifest.parquet" in made.files["me/landscapes"]
    assert "flickr" in (tmp_path / "rights.html").read_text(encoding="utf-8")
