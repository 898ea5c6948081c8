"""docs/annotated_plane.py, a single file of numpy and torch, paints the same as the package."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alis
from alis.models import model_folder
from tests.alis import painter

FILE = Path(__file__).parents[3] / "docs" / "annotated_plane.py"


@pytest.fixture(scope="module")
def annotated() -> Any:
    spec = importlib.util.spec_from_file_location("annotated_plane", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short_and_needs_only_numpy_and_torch() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text.count("\n") <= 250
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "torch"}


def test_it_paints_the_demo_models_tiles(tmp_path: Path) -> None:
    panorama = alis.Panorama(alis.load("demo"), 7)
    for k in (-3, 10**9 + 1):
        words = [sys.executable, FILE, model_folder.DEMO, "--seed", "7", "--tile", str(k), "-o", tmp_path / "tile.ppm"]
        alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([str(word) for word in words], cwd=tmp_path, env=alone, check=True)
        with Image.open(tmp_path / "tile.ppm") as picture:
            assert np.abs(np.asarray(picture).astype(int) - panorama.tile(k)).max() <= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "plane", "local_latents": 0.5},
        {"padding": "plane", "w_coord_dist": 2},
        {"padding": "zeros"},
        {"padding": "replicate", "grid_size": 4},
    ],
)
def test_it_paints_every_kind_of_plane(annotated: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    alis.save(tmp_path, painter.tiny(**settings))
    plane, panorama = annotated.Plane(tmp_path, 7), alis.Panorama(alis.load(tmp_path), 7)
    for k in (0, -3, 5, 10**9):
        want = panorama.tile(k)
        assert np.ptp(want) > 50, "there is something to compare"
        assert np.abs(plane.tile(k).astype(int) - want).max() <= 1
