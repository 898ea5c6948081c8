"""macOS and Windows lack calls that Linux has: every module imports without them, and a run goes through."""

from __future__ import annotations

import ast
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
         "geteuid", "getuid", "getgid", "fchmod", "fchown", "posix_fadvise", "posix_fallocate", "pathconf",
         "killpg", "setsid", "getpgid", "getloadavg", "mkfifo", "sync", "sched_setaffinity", "sysconf"],
    select: ["poll"],
    signal: ["SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGALRM", "alarm", "pthread_sigmask", "pthread_kill",
             "sigwait", "setitimer"],
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
    places = f"{tmp_path / 'site'}{os.pathsep}{ROOT}"
    return {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "USERNAME": "me"}


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


def test_the_plane_is_painted_without_those_calls(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    words = [sys.executable, "-m", "alis", "panorama", "demo", "-o", "x.png", "--frames", "1"]
    done = subprocess.run(words, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "x.png\n"), done.stderr


# What Python's own pages call "Availability: Unix", as far as it may be wanted here.
POSIX = {
    "os": {
        *(
            "fork",
            "forkpty",
            "sched_getaffinity",
            "sched_setaffinity",
            "pread",
            "preadv",
            "pwrite",
            "pwritev",
            "statvfs",
        ),
        *("geteuid", "getuid", "getgid", "getpgid", "setsid", "killpg", "pathconf", "sysconf", "fchown", "chown"),
        *("posix_fadvise", "posix_fallocate", "getloadavg", "uname", "mkfifo", "sync", "sendfile", "wait3", "nice"),
        *("O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "register_at_fork", "WIFSIGNALED"),
    },
    "signal": {
        *("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGKILL", "SIGCHLD", "SIGPIPE", "alarm", "setitimer"),
        *("pthread_sigmask", "pthread_kill", "sigwait", "siginterrupt"),
    },
    "select": {"poll", "epoll", "kqueue"},
    "socket": {"AF_UNIX", "SO_REUSEPORT", "MSG_DONTWAIT"},
}
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
# Reached only where the system has them: `has_fork` chooses who runs a job apart, and who starts the fork server.
CHOSEN_BY = {"lhq/engines/isolated.py": "has_fork", "lhq/processes.py": "has_fork"}


def unguarded(text: str) -> list[str]:
    """POSIX-only names of a module's source that it neither asks for first nor imports with a way out."""
    tree = ast.parse(text)
    asked = {
        (node.args[0].id, node.args[1].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"hasattr", "getattr"}
        if isinstance(node.args[0], ast.Name) and isinstance(node.args[1], ast.Constant)
    }
    caught = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any("ImportError" in ast.unparse(one.type or node) for one in node.handlers)
        for inner in ast.walk(node)
    }
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pair = (node.value.id, node.attr)
            if node.attr in POSIX.get(node.value.id, ()) and pair not in asked:
                found.append((node.lineno, ".".join(pair)))
        elif isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in caught:
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [(node.lineno, f"import {name}") for name in names if name in MODULES]
    return [f"{line}: {what}" for line, what in sorted(found)]


def test_no_call_of_one_system_without_a_way_round() -> None:
    found = [
        f"{name}:{line}"
        for package in ("lhq", "alis")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (name := path.relative_to(ROOT).as_posix()) not in CHOSEN_BY
        for line in unguarded(path.read_text(encoding="utf-8"))
    ]
    assert not found, "ask with hasattr first, or put it in lhq/system.py:\n" + "\n".join(found)
    for name, word in CHOSEN_BY.items():
        assert word in (ROOT / name).read_text(encoding="utf-8"), name


def test_such_a_call_is_seen() -> None:
    assert unguarded("import os\nos.pathconf('.', 'PC_NAME_MAX')\nimport fcntl") == [
        "2: os.pathconf",
        "3: import fcntl",
    ]
    assert unguarded("import os\nif hasattr(os, 'fork'):\n    os.fork()") == []
    assert unguarded("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None") == []


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
