"""The laws of the house that a machine can check: import ranks, file length, torch only where it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lower rank may be imported, never the reverse; one rank does not import itself (a package's own files may).
RANKS = {
    "lhq": [
        ["errors", "records"],
        ["config", "rights", "images"],
        ["store", "http", "sandbox"],
        ["sources", "measures", "engines"],
        ["crawl", "filter", "export", "report"],
        ["intake", "takedown"],
        ["pipeline"],
        ["cli"],
    ],
    "alis": [
        ["errors"],
        ["config", "dist", "progress"],
        ["plane", "ops"],
        ["models", "formats", "data", "features"],
        ["metrics", "painting", "import_published"],
        ["training", "web"],
        ["cli"],
    ],
}
# Rooms at one rank that DESIGN lets lean on each other: a measure's contract is the engines' lane.
NEIGHBOURS = {("lhq", "engines", "measures")}


def _rank(package: str) -> dict[str, int]:
    return {room: rank for rank, rooms in enumerate(RANKS[package]) for room in rooms}


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _room(path: Path, package: str) -> str:
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


def _imports(path: Path) -> list[tuple[str, str]]:
    """(package, room) of every import of our own code in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{a.name}" if node.module in RANKS else node.module for a in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] in RANKS and len(parts) > 1:
                found.append((parts[0], parts[1]))
    return found


@pytest.mark.parametrize("package", ["lhq", "alis"])
def test_imports_go_down(package: str) -> None:
    ranks, wrong = _rank(package), []
    for path in _files(package):
        room = _room(path, package)
        if room in {"__init__", "__main__"}:
            continue
        assert room in ranks, f"{path.relative_to(ROOT)}: give {room} a rank in RANKS and in docs/architecture.md"
        for other, target in _imports(path):
            name = path.relative_to(ROOT)
            if other != package:
                if package == "lhq":
                    wrong.append(f"{name}: lhq imports alis")
                continue
            if target == room or target not in ranks or (package, room, target) in NEIGHBOURS:
                continue
            if ranks[target] >= ranks[room]:
                wrong.append(f"{name}: {room} (rank {ranks[room]}) imports {target} (rank {ranks[target]})")
    assert not wrong, "\n".join(wrong)


def test_files_hold_one_concept() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for package in RANKS
        for path in _files(package)
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 400
    ]
    assert not long, "\n".join(long)


def test_every_file_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in RANKS
        for path in _files(package)
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent, f"no docstring on line 1: {silent}"


@pytest.mark.parametrize("modules", ["lhq.cli, lhq.pipeline, lhq.export"])
def test_torch_is_not_loaded_before_it_is_needed(modules: str) -> None:
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch was imported"
