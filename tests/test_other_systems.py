"""macOS and Windows lack calls that Linux has: every module imports without them, and a run goes through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lhq.making import scene

ROOT = Path(__file__).parents[1]
# Taken away before anything is imported, in every child process as well.
LACKING = """
import os, select, signal, socket, sys
for module, names in {
    os: ["fork", "forkpty", "sched_getaffinity", "pread", "preadv", "pwrite", "pwritev", "O_NONBLOCK", "O_CLOEXEC",
         "geteuid", "getuid", "fchmod", "posix_fadvise", "statvfs"],
    select: ["poll"],
    signal: ["SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""
BLOCKED = """
class Blocked:
    names = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "_posixshmem"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ImportError(f"no {name} on this system")
sys.meta_path.insert(0, Blocked())
"""
IMPORTS = """
import ast, importlib, pkgutil, sys
from pathlib import Path
# What others wrote comes first, as it is: their ways on other systems are theirs to test.
for package in ("lhq", "alis"):
    for path in Path(package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                if name.split(".")[0] not in {"lhq", "alis", "__future__"}:
                    try:
                        importlib.import_module(name)
                    except (ImportError, OSError):
                        pass
"""
EVERY = """
for name in Blocked.names:
    sys.modules.pop(name, None)
failed, count = {}, 0
for package in ("lhq", "alis"):
    for found in pkgutil.walk_packages([package], f"{package}."):
        if found.name.endswith("__main__"):
            continue
        count += 1
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in {"lhq", "alis"} | Blocked.names:
                failed[found.name] = error
        except Exception as error:
            failed[found.name] = error
print(count)
for name, error in failed.items():
    print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
sys.exit(len(failed) > 0)
"""


def test_every_module_imports_without_posix() -> None:
    code = IMPORTS + LACKING + BLOCKED + EVERY
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 250


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a system without those calls, in child processes too; locks it has."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LACKING)
    return {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


def test_a_folder_becomes_a_dataset_without_those_calls(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / f"pictures/{number}.jpg").write_bytes(scene(number))

    def lhq(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lhq", *map(str, words)],
            cwd=tmp_path,
            env=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )

    check = "import os, select, sys; sys.exit(hasattr(os, 'fork') or hasattr(os, 'pread') or hasattr(select, 'poll'))"
    assert subprocess.run([sys.executable, "-c", check], env=elsewhere, check=False).returncode == 0
    made = lhq("init", "mine.toml", "--source", "folder", "--folder", "pictures", "--min-side", 128)
    assert made.returncode == 0, made.stderr
    done = lhq("run", "mine.toml")
    assert done.returncode == 0, done.stderr
    assert "kept 3 · new 3" in done.stderr
    verified = lhq("verify", "data/mine/export")
    assert verified.returncode == 0, verified.stderr


def test_without_locks_a_run_says_so(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    code = (
        LACKING + BLOCKED + "sys.modules.pop('fcntl', None)\n"
        "from lhq import system\n"
        "with open('x.lock', 'a+') as file:\n"
        "    system.lock(file)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False
    )
    assert "neither fcntl nor msvcrt, so nothing keeps two runs apart" in done.stderr
