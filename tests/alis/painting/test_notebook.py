"""The example notebook runs from top to bottom, and its pictures are pictures."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from PIL import Image

import alis
from tests.alis import painter

NOTEBOOK = Path(__file__).parents[3] / "docs" / "panoramas.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alis.save(tmp_path, painter.tiny())
    monkeypatch.setenv("ALIS_MODEL", str(tmp_path))
    scope: dict[str, object] = {}
    shown = []
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 8
    for cell in cells:
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), scope)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), scope))
    pictures = [value for value in shown if isinstance(value, Image.Image)]
    assert len(pictures) == 5
    assert all(picture.height == 32 and picture.width >= 64 for picture in pictures)
    assert 0 in shown or 1 in shown, "tile and wide picture agree"
