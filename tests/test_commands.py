"""Every command has help with an example, is described in the README or in docs/, and ends as both programs promise."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import alis.cli
import lhq.cli
from lhq.cli.extras import EXTRAS, INCLUDES, lacking, modules_of
from lhq.pipeline import file, load
from lhq.pipeline.places import shipped
from lhq.pipeline.registry import MEASURES
from tests.lhq.making import painted_store

ROOT = Path(__file__).parents[1]
PROGRAMS = {"lhq": lhq.cli.cli, "alis": alis.cli.cli}


def _commands() -> list[tuple[str, ...]]:
    found = []
    for name, program in PROGRAMS.items():
        context = click.Context(program)
        for child in program.list_commands(context):
            command = program.get_command(context, child)
            if isinstance(command, click.Group):
                found += [(name, child, grandchild) for grandchild in command.list_commands(context)]
            else:
                found.append((name, child))
    return found


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_command_explains_itself(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(PROGRAMS[words[0]], [*words[1:], "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Example" in shown.output, f"{' '.join(words)} --help shows no example"


def _is_told(words: Sequence[str], pages: Iterable[str]) -> bool:
    """Whether one of the pages names the command, as whole words."""
    name = re.compile(rf"(?<![\w-]){re.escape(' '.join(words))}(?![\w-])")
    return any(name.search(page) for page in pages)


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_command_is_documented(words: tuple[str, ...]) -> None:
    """On a page that somebody wrote: docs/commands.md is made from the commands and has them all."""
    pages = [ROOT / "README.md", *((ROOT / "docs").rglob("*.md"))]
    written = [page.read_text(encoding="utf-8") for page in pages if page.name not in {"commands.md", "changelog.md"}]
    assert _is_told(words, written), f"no page says what `{' '.join(words)}` does"


def test_a_command_that_no_page_names_is_found() -> None:
    assert not _is_told(("lhq", "re"), ["`lhq report` and `lhq re-check`, lhq\nre"])
    assert _is_told(("lhq", "report"), ["`lhq report`"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_list_says_what_the_commands_say(name: str) -> None:
    """The list is shown without importing a command, so it says the first sentences again."""
    program = PROGRAMS[name]
    for command, entry in program.entries.items():
        found = program.get_command(click.Context(program), command)
        assert found is not None
        assert entry.line == found.get_short_help_str(200), command
    listed = CliRunner().invoke(program, ["--help"]).output.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2:3].strip()][
        : len(program.entries)
    ] == list(program.entries)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_list_imports_no_command(name: str) -> None:
    code = f"import sys; from {name}.cli import main; sys.argv = ['{name}', '--help']\n"
    code += "try: main()\nexcept SystemExit: pass"
    code += "\nsys.exit(any(m in sys.modules for m in ('numpy', 'pyarrow', 'torch', 'requests', 'pydantic', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Exit codes: 0 done; 1 something failed" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", PROGRAMS)
def test_unknown_command_is_one_line_and_exit_2(name: str) -> None:
    done = CliRunner().invoke(PROGRAMS[name], ["nosuch"])
    assert done.exit_code == 2
    assert "nosuch" in done.output


def test_extras_are_those_of_the_package() -> None:
    """Every optional dependency that a command may import is in the table that names the extra to install."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {_distribution(line) for line in said["dependencies"]}
    for extra, modules in EXTRAS.items():
        lines = said["optional-dependencies"][extra]
        own = {_distribution(line) for line in lines if not line.startswith("lhq[")} - core - {"pyvips-binary"}
        assert own == {module.replace("_", "-") for module in modules}, extra
        included = [line[4:-1].split(",") for line in lines if line.startswith("lhq[")]
        assert tuple(included[0] if included else ()) == INCLUDES.get(extra, ()), extra
        assert lacking(extra) == [], "the test suite is run with all extras"
    assert modules_of("web") == EXTRAS["web"] + EXTRAS["ml"]


def _distribution(line: str) -> str:
    return line.partition(">")[0].partition("[")[0]


@pytest.mark.parametrize(
    ("words", "module", "said"),
    [
        (["alis", "panorama", "demo", "-o", "x.png"], "torch", "alis: alis panorama needs torch, "),
        (["alis", "train", "--data", "x"], "torch", "alis: alis train needs torch, "),
        (["alis", "serve", "demo", "--port", "0"], "fastapi", "alis: alis serve needs fastapi, "),
        (["alis", "info", "demo"], "safetensors", "alis: alis info needs safetensors, "),
        (["lhq", "filter", "{pipeline}"], "torch", "lhq: lhq filter needs torch, "),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, words: list[str], module: str, said: str) -> None:
    """A package that is not installed is a line with the command that installs it, for every command of both."""
    painted_store(tmp_path / "store", 2)
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(f'store = "{tmp_path}/store"\nwant = 1\nqueries = ["a"]\n[filter.objects]\n')
    words = [word.format(pipeline=pipeline) for word in words]
    code = f"import sys; sys.modules['{module}'] = None; sys.argv = {words}; from {words[0]}.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    extra = {"panorama": "ml", "train": "train", "serve": "web", "info": "ml", "filter": "ml"}[words[1]]
    assert done.stderr.splitlines()[-1] == f"{said}which is not installed; pip install 'lhq[{extra}]'"
    assert "Traceback" not in done.stderr


def _without(module: str, words: list[str], folder: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a process where a module is not installed; `code` runs first."""
    code = f"import sys; sys.modules[{module!r}] = None; sys.argv = {words!r}\n{code}\n" if module else f"{code}\n"
    code += f"import sys; sys.argv = {words!r}; from {words[0]}.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_a_run_says_what_its_measures_lack_before_it_crawls(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    pipeline = tmp_path / "p.toml"
    pipeline.write_text('store = "store"\n[source.folder]\npath = "photos"\n[filter.objects]\n')
    done = _without("torch", ["lhq", "run", "p.toml"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "lhq: p.toml [filter.objects]: needs torch (not installed); "
        "pip install 'lhq[ml]', or run a file without that table (`lhq init` writes one)\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.toml", "photos"], "nothing was crawled"


def test_what_a_measure_needs_is_what_it_imports() -> None:
    """Whatever of lhq's measures speaks of torch says so in `needs`, and all that they need is one extra away."""
    for name in MEASURES.own:
        room = ROOT / "lhq/measures" / f"{name}.py"
        says = MEASURES.load(name).needs
        assert ("torch" in says) is ("torch" in room.read_text(encoding="utf-8")), name
        assert not set(says) - set(modules_of("ml")), name


@pytest.mark.parametrize("torch_is_there", [True, False])
def test_init_writes_a_file_that_runs_with_what_is_installed(tmp_path: Path, torch_is_there: bool) -> None:
    words = ["lhq", "init", "mine.toml", "--source", "sandbox"]
    done = _without("" if torch_is_there else "torch", words, tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("[filter.objects] is commented out" in done.stderr) is not torch_is_there
    assert ("objects" in load(tmp_path / "mine.toml").file.filters) is torch_is_there
    text = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    marked = "" if torch_is_there else "# "
    assert f'{marked}[filter.objects]\n{marked}weights = "sandbox" ' in text


@pytest.mark.parametrize("name", shipped())
def test_init_copies_each_pipeline_that_comes_with_lhq(name: str, tmp_path: Path) -> None:
    """A copy means the same as the file run by its name, also where its paths lie, and is one's own to edit."""
    done = _without("", ["lhq", "init", "mine.toml", "--like", name, "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"path": "mine.toml", "like": name}
    copy, whole = load(tmp_path / "mine.toml").file, load(name).file
    assert copy.store == str(tmp_path / "data" / name)
    assert (copy.filters, copy.queries, copy.want, copy.http) == (whole.filters, whole.queries, whole.want, whole.http)
    assert [*copy.sources] == [*whole.sources]
    for source in copy.sources.values():
        assert Path(getattr(source, "path", "") or tmp_path).is_relative_to(tmp_path)
    refused = _without("", ["lhq", "init", "other.toml", "--like", name, "--want", "3"], tmp_path)
    assert (refused.returncode, (tmp_path / "other.toml").exists()) == (2, False)
    assert "leave the other options out" in refused.stderr


def test_init_prints_every_key(tmp_path: Path) -> None:
    """Whoever has the package alone has no pages beside it."""
    shown = _without("", ["lhq", "init", "--keys"], tmp_path)
    assert shown.returncode == 0, shown.stderr
    told = json.loads(_without("", ["lhq", "init", "--keys", "--json"], tmp_path).stdout)["tables"]
    assert {table["title"].partition(".")[0] for table in told} == {"", *file.TABLES}
    for table in told:
        assert f"[{table['title']}]" in shown.stdout or not table["title"]
        for key in table["keys"]:
            assert f"\n{key['name']}" in f"\n{shown.stdout}"
    page = (ROOT / "docs/pipeline-file.md").read_text(encoding="utf-8")
    assert [table["title"] for table in told if table["title"] and f"## `[{table['title']}]`" not in page] == []


def test_no_message_points_to_a_page_that_a_wheel_lacks() -> None:
    for path in (path for package in ("lhq", "alis") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for said in getattr(node, "keywords", []):
                if said.arg == "hint":
                    assert "docs/" not in ast.unparse(said.value).replace("huggingface.co/docs/", ""), path


@pytest.mark.parametrize(
    "words", [["alis", "panorama", "demo", "-o", "x.png"], ["lhq", "filter", "p.toml"], ["lhq", "doctor"]], ids=" ".join
)
def test_builds_of_torch_and_torchvision_that_do_not_fit_are_one_line(words: list[str], tmp_path: Path) -> None:
    """What torchvision raises beside a torch of another build, at its import."""
    painted_store(tmp_path / "store", 1)
    (tmp_path / "p.toml").write_text(
        'store = "store"\nwant = 1\nqueries = ["a"]\n[filter.objects]\nweights = "sandbox"\n'
    )
    (tmp_path / "site/torchvision").mkdir(parents=True)
    (tmp_path / "site/torchvision/__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    done = _without("", words, tmp_path, f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})")
    assert "Traceback" not in done.stderr
    if words == ["lhq", "doctor"]:
        assert done.returncode == 0
        assert "torchvision: does not import beside this torch (operator torchvision::nms" in done.stdout
    elif words[0] == "lhq":
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("lhq: torch 2.")
        assert "are builds that do not fit each other; install both anew by one pip command" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "x.png\n"), "painting needs no torchvision"


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_doctor_says_what_each_command_would_lack(name: str, tmp_path: Path) -> None:
    """Without torch, every command that needs it is named; keys are never shown."""
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['{name}', 'doctor', '--json']\n"
    code += f"from {name}.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FLICKR_API_KEY": "deadbeef"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deadbeef" not in done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["commands"].keys() == PROGRAMS[name].entries.keys()
    assert {command for command, lacks in told["commands"].items() if lacks} == {
        command for command, entry in PROGRAMS[name].entries.items() if entry.extra
    }
    there = {finding["name"]: finding["is_there"] for finding in told["findings"]}
    assert there["ml"] is False
    assert there.get("FLICKR_API_KEY", True) is True
    shown = CliRunner().invoke(PROGRAMS[name], ["doctor"])
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-1] == f"ok       command  {', '.join(PROGRAMS[name].entries)}"


def test_quiet_silences_talk_and_nothing_else(tmp_path: Path) -> None:
    painted_store(tmp_path / "store", 2)
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(f'store = "{tmp_path}/store"\nwant = 1\nqueries = ["a"]\n[export]\nvariants = ["32"]\n')
    loud = CliRunner().invoke(lhq.cli.cli, ["export", str(pipeline)])
    assert (loud.exit_code, "photos 2 · kept 2" in loud.stderr) == (0, True)
    calm = CliRunner().invoke(lhq.cli.cli, ["export", str(pipeline), "--quiet"])
    assert (calm.exit_code, calm.stdout, calm.stderr) == (0, loud.stdout, "")
    wrong = CliRunner().invoke(lhq.cli.cli, ["import", "zip", "-q", "none.zip", str(pipeline)], standalone_mode=False)
    assert "none.zip" in str(wrong.exception)
