"""docs/panoramas.ipynb → the same with its outputs, so that it shows pictures where nobody runs it.

    python docs/notebook.py

Runs the cells one after the other in this Python and stores what each one's last line gives.
"""

from __future__ import annotations

import ast
import base64
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

NOTEBOOK = Path(__file__).parent / "panoramas.ipynb"


def run(cells: list[dict[str, Any]]) -> list[object]:
    """What the last line of every code cell gives, None where it gives nothing."""
    scope: dict[str, object] = {}
    given = []
    for cell in cells:
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), scope)
        given.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), scope) if last else None)
    return given


def shown(value: object) -> dict[str, Any]:
    """A value as Jupyter stores it."""
    data: dict[str, Any] = {"text/plain": [repr(value)]}
    if isinstance(value, Image.Image):
        file = io.BytesIO()
        value.save(file, "PNG", optimize=True)
        data = {
            "image/png": base64.b64encode(file.getvalue()).decode(),
            "text/plain": [f"<{value.width}×{value.height}>"],
        }
    return data


def main() -> None:
    """Run and store."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, value) in enumerate(zip(cells, run(cells), strict=True), start=1):
        cell["execution_count"] = number
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": shown(value)}
        cell["outputs"] = [] if value is None else [result]
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
