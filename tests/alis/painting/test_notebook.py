"""The example notebook opens the model that comes with the package, runs from top to bottom, and shows its pictures."""

from __future__ import annotations

import base64
import io
import json
import runpy
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("is_demo", [True, False])
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_demo: bool) -> None:
    monkeypatch.delenv("ALIS_MODEL", raising=False)
    if not is_demo:
        alis.save(tmp_path, painter.tiny())
        monkeypatch.setenv("ALIS_MODEL", str(tmp_path))
    shown = runpy.run_path(str(DOCS / "notebook.py"))["run"](_cells())
    height = 64 if is_demo else 32
    assert getattr(shown[0], "resolution", None) == height
    pictures = [value for value in shown if isinstance(value, Image.Image)]
    assert len(pictures) == 5
    assert all(picture.height == height and picture.width >= 2 * height for picture in pictures)
    assert 0 in shown or 1 in shown, "tile and wide picture agree"


def test_the_notebook_shows_what_it_made() -> None:
    pictures = 0
    for number, cell in enumerate(_cells(), start=1):
        assert cell["execution_count"] == number
        (output,) = cell["outputs"]
        assert output["output_type"] == "execute_result"
        if "image/png" in output["data"]:
            with Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))) as picture:
                assert picture.height == 64
            pictures += 1
    assert pictures == 5
