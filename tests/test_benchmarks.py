"""Every benchmark starts: its options are told, and whatever it imports, wherever in it, is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
COMMANDS = [path for path in SCRIPTS if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]
# In one process: what they import is loaded once.
HELP = """
import contextlib, io, os, runpy, sys
for path in list(sys.argv[1:]):
    said = io.StringIO()
    sys.argv, sys.path[0] = [path, "--help"], os.path.dirname(path)
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(path, run_name="__main__")
        end = "went on without asking what to do"
    except SystemExit as exit:
        end = "" if not exit.code and "usage:" in said.getvalue() else f"left with {exit.code!r}: {said.getvalue()!r}"
    except BaseException as error:
        end = repr(error)
    if end:
        print(f"{path}: {end}")
"""


def imports(source: str) -> Iterator[tuple[str, str | None]]:
    """(module, name) of our own packages that a script asks for, in functions and in programs kept as text too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and _is_ours(node.module):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            try:
                yield from imports(node.value)
            except SyntaxError:
                continue


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in {"alis", "lhq"}


def is_there(module: str, name: str | None) -> bool:
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if _is_ours(str(error.name)):
            return False
        pytest.skip(f"{error.name} is not installed")
    if name is None or hasattr(found, name):
        return True
    return hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    missing = [pair for pair in imports(path.read_text(encoding="utf-8")) if not is_there(*pair)]
    assert not missing, f"{path.name} asks for what has moved: {missing}"


def test_an_import_in_a_program_kept_as_text_is_seen() -> None:
    source = 'def f():\n    return run("import sys\\n" "from alis import nowhere\\n")\n'
    assert [pair for pair in imports(source) if not is_there(*pair)] == [("alis", "nowhere")]


def test_every_benchmark_tells_its_options() -> None:
    assert len(COMMANDS) > 20
    words = [sys.executable, "-W", "ignore", "-c", HELP, *map(str, COMMANDS)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout, done.stdout
