"""The example notebook opens the packaged model, runs from top to bottom, and shows that model's pictures."""

from __future__ import annotations

import base64
import io
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alis
from tests.alis import painter

DOCS = Path(__file__).parents[3] / "docs"
NOTEBOOK = DOCS / "panoramas.ipynb"


def _cells() -> list[dict[str, Any]]:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 8
    return cells


def _stored(cell: dict[str, Any]) -> np.ndarray | None:
    """The picture that the notebook shows below a cell, if it is one."""
    (output,) = cell["outputs"]
    assert output["output_type"] == "execute_result"
    if "image/png" not in output["data"]:
        return None
    with Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def _run(cells: list[dict[str, Any]]) -> tuple[list[object], list[Image.Image]]:
    shown = runpy.run_path(str(DOCS / "notebook.py"))["run"](cells)
    pictures = [value for value in shown if isinstance(value, Image.Image)]
    assert len(pictures) == 5
    assert 0 in shown or 1 in shown, "tile and wide picture agree"
    return shown, pictures


def test_the_notebook_runs_with_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alis.save(tmp_path, painter.tiny())
    monkeypatch.setenv("ALIS_MODEL", str(tmp_path))
    shown, pictures = _run(_cells())
    assert getattr(shown[0], "resolution", None) == 32
    assert all(picture.height == 32 and picture.width >= 64 for picture in pictures)


def test_the_notebook_shows_what_the_demo_model_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIS_MODEL", raising=False)
    cells, height = _cells(), alis.load("demo").config.resolution
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    shown, pictures = _run(cells)
    assert getattr(shown[0], "resolution", None) == height
    stored = [picture for picture in map(_stored, cells) if picture is not None]
    for was, now in zip(stored, pictures, strict=True):
        want = np.asarray(now.convert("RGB")).astype(int)
        assert want.shape[0] == height
        assert want.shape[1] >= 2 * height
        assert was.shape == want.shape, "run: python docs/notebook.py"
        assert np.abs(was - want).mean() < 1, "run: python docs/notebook.py"
