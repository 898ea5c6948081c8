"""The laws of the house that a machine can check: import ranks, file length, torch only where it is needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lhq.pipeline.registry import SOURCES

ROOT = Path(__file__).parents[1]

# Lower rank may be imported, never the reverse; one rank does not import itself (a package's own files may).
RANKS = {
    "lhq": [
        ["errors", "nearest", "records", "progress", "system", "text_file", "checked_json", "printable"],
        ["config", "processes", "rights", "images"],
        ["store", "http", "sandbox"],
        ["sources", "measures", "engines"],
        ["crawl", "filter", "export", "report"],
        ["intake", "takedown"],
        ["pipeline"],
        ["cli"],
    ],
    "alis": [
        ["errors"],
        ["config", "dist", "progress", "tensor_file"],
        ["plane", "ops"],
        ["models", "formats", "data", "features"],
        ["metrics", "painting", "import_published"],
        ["training", "web"],
        ["cli"],
    ],
}
# Ranks inside a room, lowest first; files that are not named stand below all that are. "" is the room's own door.
INSIDE = {
    "lhq.sources": [[""], ["imgix", "commons_papers"], ["commons", "flickr", "folder", "unsplash", "unsplash_dataset"]],
    "lhq.crawl": [
        ["reasons"],
        ["frontier", "spool"],
        ["placeholders", "refetch", "search", "writer"],
        ["work"],
        ["fetch", "progress"],
        [""],
        ["plan"],
        ["status"],
    ],
    "lhq.filter": [["damage", "rule"], ["by_row"], ["measure", "judge"], ["photo"], [""]],
    "lhq.images": [["containers", "icc"], ["colour", "decoders", "header"], ["png_rows"], ["decode"], [""]],
    "lhq.export": [
        ["layout", "work"],
        ["manifest", "render", "rows", "settings"],
        ["previous"],
        ["shard_writer"],
        ["credits"],
        ["card"],
        ["croissant"],
        ["ownership"],
        ["archives", "hub", "verify"],
        [""],
    ],
    "lhq.pipeline": [["places"], ["registry", "queries"], ["file"], ["services"], ["keys", "run"], [""]],
    "lhq.store": [
        ["atomic_file"],
        ["shards", "marker"],
        ["small_tables"],
        ["atomic_folder", "copies", "rechecked", "tombstones", "verdicts"],
    ],
    "alis.training": [["recipe", "losses", "state"], ["augment", "monitor"], ["step"], ["loop"], ["launch"]],
}


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
            if target == room or target not in ranks:
                continue
            if ranks[target] >= ranks[room]:
                wrong.append(f"{name}: {room} (rank {ranks[room]}) imports {target} (rank {ranks[target]})")
    assert not wrong, "\n".join(wrong)


def _modules() -> dict[str, Path]:
    """Dotted name → file; a room's door goes by the room's name. The packages' own doors import at first use only."""
    found = {}
    for package in RANKS:
        for path in _files(package):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in found.items() if name not in RANKS}


def _arrows(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Module → the modules of ours that it names in an import, wherever the import stands."""
    arrows: dict[str, set[str]] = {}
    for module, path in modules.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= whole & modules.keys() or {node.module}
                named |= {node.module} if whole - modules.keys() else set()
        arrows[module] = (named & modules.keys()) - {module}
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach each other by imports."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            for target in arrows[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    reach = {module: reached(module) for module in arrows}
    found: list[set[str]] = []
    for module in sorted(arrows):
        if module in reach[module] and not any(module in circle for circle in found):
            found.append({other for other in reach[module] if module in reach[other]})
    return found


def test_files_import_each_other_in_no_circle() -> None:
    found = [sorted(circle) for circle in circles(_arrows(_modules()))]
    assert not found, f"files that import each other in a circle: {found}"


def test_a_circle_is_seen() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(arrows) == [{"a", "b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize("room", INSIDE)
def test_imports_go_down_inside_a_room(room: str) -> None:
    modules, wrong = _modules(), []
    ranks = {f"{room}.{name}".rstrip("."): rank for rank, names in enumerate(INSIDE[room]) for name in names}
    assert ranks.keys() <= modules.keys(), f"no such file: {sorted(ranks.keys() - modules.keys())}"
    for module, targets in _arrows(modules).items():
        for target in targets:
            if module in ranks and target in ranks and ranks[target] >= ranks[module]:
                wrong.append(f"{module} (rank {ranks[module]}) imports {target} (rank {ranks[target]})")
    assert not wrong, "\n".join(wrong)


def test_every_source_has_its_rank() -> None:
    """So that a new one is held to import the protocol's file and no other source."""
    assert {*SOURCES.own} == {*INSIDE["lhq.sources"][-1]}


def test_files_hold_one_concept() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for place in [*RANKS, "tests"]
        for path in _files(place)
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 400
    ]
    assert not long, "\n".join(long)


def test_the_page_shows_the_same_rooms() -> None:
    """docs/architecture.md gives every room the rank that it has here."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## The rooms")[2]
    for package, ranks in RANKS.items():
        lines = page.partition(f"\n{package}/\n")[2].partition("\n\n")[0].splitlines()
        shown: list[list[str]] = []
        for line in lines:
            rank, names = line[:3].strip(), re.split(r" {3,}", line[3:])[0]
            if rank:
                assert int(rank) == len(shown), line
                shown.append([])
            shown[-1] += [name.strip("/") for name in names.split()]
        assert [sorted(rooms) for rooms in shown] == [sorted(rooms) for rooms in ranks], package


def test_functions_fit_a_screen() -> None:
    """At most 60 lines from `def` to the end."""
    long = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for package in RANKS
        for path in _files(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno >= 60
    }
    assert not long, f"longer than 60 lines: {sorted(long)}"


# Signatures that another library dictates: it passes every parameter by name.
DICTATED = {
    "alis/models/hub.py: _from_pretrained",  # huggingface_hub's mixin
}


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many a caller may give: not `self`, `cls` or autograd's `ctx`; `*args` and `**more` count as none."""
    all_of_them = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in all_of_them if one.arg not in {"self", "cls", "ctx"}])


def is_called_by_a_library(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command (click gives every option by name) or a Triton kernel (which has numbers, no objects)."""
    return any(ast.unparse(one).startswith(("click.", "command.", "triton.jit")) for one in function.decorator_list)


def test_functions_take_six_parameters_at_most() -> None:
    many = {
        f"{path.relative_to(ROOT).as_posix()}: {node.name}"
        for package in RANKS
        for path in _files(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if num_parameters(node) > 6 and not is_called_by_a_library(node)
    }
    assert many - DICTATED == set(), "give them an object of settings, or cut them at a joint"
    assert DICTATED - many == set(), "no longer needed in DICTATED"


def test_a_seventh_parameter_is_seen() -> None:
    (method,) = ast.parse("def f(self, a, b, c, /, d, *args, e, f, g=0, **more): ...").body
    (command,) = ast.parse("@click.command()\ndef f(a, b, c, d, e, f, g): ...").body
    assert isinstance(method, ast.FunctionDef)
    assert isinstance(command, ast.FunctionDef)
    assert (num_parameters(method), is_called_by_a_library(method)) == (7, False)
    assert is_called_by_a_library(command)


def test_no_thread_of_arrow_reads_ahead() -> None:
    """It holds on to a Python file's bytes, and one that lets go of them while the interpreter ends aborts the process:
    `lhq status` did, once in ten times. Arrow's own default is to read ahead."""
    for path in [*_files("lhq"), *_files("alis")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pq.ParquetFile":
                said = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert said.get("pre_buffer") == "False", f"{path}:{node.lineno}"


def test_every_file_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in RANKS
        for path in _files(package)
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent, f"no docstring on line 1: {silent}"


def test_links_stay_inside() -> None:
    """A link that leads out of the repository is somebody's own."""
    listed = subprocess.run(["git", "ls-files", "-sz"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a clone")
    links = [line.partition("\t")[2] for line in listed.stdout.split("\0") if line.startswith("120000")]
    assert {"pipelines", "queries"} <= set(links)
    outside = [link for link in links if not (ROOT / link).resolve().is_relative_to(ROOT.resolve())]
    assert not outside, f"links that lead out: {outside}"


@pytest.mark.parametrize("modules", ["lhq.cli, lhq.pipeline, lhq.export"])
def test_torch_is_not_loaded_before_it_is_needed(modules: str) -> None:
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch was imported"
