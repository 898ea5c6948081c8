"""The page "Train on your own photographs": every command, in order, on a folder of photographs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.alis import sets

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "own-photographs.md"
# Flags that shorten training to seconds; nothing else of a command is changed.
SHORT = ["--run.kimg", "0.008", "--run.tick-kimg", "0.008", "--model.channel-base", "256", "--model.channel-max", "16"]


@pytest.mark.timeout(900)
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "photos" / f"day{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sets.scenery(number, 300))
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (pipeline,) = [content for kind, content in blocks if kind == "toml"]
    (tmp_path / "own.toml").write_text(pipeline, encoding="utf-8")
    commands = [line for kind, content in blocks if kind == "" for line in content.splitlines()]
    assert len(commands) == 7
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    said = {}
    for line in commands:
        package, *words = shlex.split(line)
        words += SHORT if words[0] == "train" else []
        command = [sys.executable, "-m", package, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
        said[line] = done
    assert '"num_images": 24' in said[commands[0]].stdout
    with Image.open(tmp_path / "panorama.png") as picture:
        assert picture.size == (12 * 64, 64)
    assert said[commands[-1]].stdout.strip() == "runs/prepared/snapshots/000000008"
    assert "must be resized" not in said[commands[-1]].stderr
