"""Every command of both programs: with --json its stdout is JSON and nothing else, with --quiet its stderr is empty,
and NO_COLOR takes the colours away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import alis
from alis.painting import clusters
from alis.plane import codes
from tests.alis import painter as models
from tests.alis.sets import numbered
from tests.alis.web.npm import RUNTIME
from tests.lhq.making import painted_store, scene
from tests.test_commands import PROGRAMS, _commands

ROOT = Path(__file__).parents[1]
PIPELINE = """store = "{folder}/store"
want = 3
[source.folder]
path = "{folder}/pictures"
licence = "own"
min_side_px = 16
[filter.size]
min_side_px = 16
[export]
variants = ["32"]
"""
# Every command and what it is given, in an order in which each finds what it needs. Those of `SERVED` are processes.
GIVEN = {
    "lhq run": "p.toml",
    "lhq crawl": "p.toml",
    "lhq filter": "p.toml",
    "lhq export": "p.toml",
    "lhq status": "p.toml",
    "lhq list": "p.toml",
    "lhq show": "{id} p.toml",
    "lhq report": "p.toml -o report.html",
    "lhq rights": "p.toml",
    "lhq verify": "store/export",
    "lhq rehydrate": "store/export/manifest.parquet again.toml",
    "lhq recheck": "p.toml --limit 1",
    "lhq import folder": "more p.toml --licence own --author Me --name new",
    "lhq import zip": "more.zip p.toml --licence own --author Me --name new",
    "lhq import lsun": "more_lmdb p.toml --name new",
    "lhq remove": "p.toml {id}",
    "lhq init": "made-new.toml --source sandbox",
    "lhq doctor": "",
    "alis train": "--data numbered --config tiny --out run-new --model.channel-base 256 --optim.batch 4 "
    "--run.tick-kimg 0.008 --run.kimg 0.008",
    "alis panorama": "model -o new.png --frames 2",
    "alis connect": "model 3 4 -o walk-new.png",
    "alis resample": "model new.png -o other-new.png --at 40",
    "alis invert": "model photo.jpg -o code-new.safetensors --steps 2 --tries 1",
    "alis clusters": "model -k 2 --samples 64",
    "alis video": "model -o new.mp4 --seconds 0.2 --height 64 --aspect 1:1",
    "alis export-web": "model -o site-new --runtime {runtime}",
    "alis evaluate": "model --metrics seam --num-images 8",
    "alis plot": "run-new -o curves-new.html",
    "alis info": "model",
    "alis slim": "model slim-new",
    "alis import-published": "snapshot.pkl published-new",
    "alis push-to-hub": "model pushed-new --dry-run",
    "alis doctor": "",
}
SERVED = {"lhq sandbox serve": "--port 0 --scenes 4", "alis serve": "model --port 0"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, a pipeline file, collections of others, and a small model."""
    folder = tmp_path_factory.mktemp("world")
    for name, number in (("pictures", 3), ("more", 1)):
        (folder / name).mkdir()
        for one in range(number):
            (folder / name / f"{one}.jpg").write_bytes(scene(one + 10 * len(name)))
    (folder / "photo.jpg").write_bytes(scene(99))
    (folder / "numbered").mkdir()
    for one in range(8):
        (folder / f"numbered/{one}.png").write_bytes(numbered(one, 64))
    (folder / "p.toml").write_text(PIPELINE.format(folder=folder))
    (folder / "again.toml").write_text(f'store = "{folder}/again"\n[source.folder]\npath = "{folder}/pictures"\n')
    _collections(folder)
    g = models.tiny(padding="plane", local_latents=0.5)
    alis.save(folder / "model", g)
    centres_KS = g.map(torch.randn(4, g.config.z_dim, generator=torch.Generator().manual_seed(0)))
    clusters.save(folder / "model", clusters.Clusters(centres_KS, torch.full([4], 0.25), 1.0))
    codes.save(folder / "mine.safetensors", centres_KS[0])
    return folder


def _collections(folder: Path) -> None:
    """One picture as others hand it on: in a zip, in LSUN's database."""
    import zipfile

    import lmdb

    with zipfile.ZipFile(folder / "more.zip", "w") as file:
        file.writestr("one.jpg", scene(77))
    with lmdb.open(str(folder / "more_lmdb")) as base, base.begin(write=True) as transaction:
        transaction.put(b"one", scene(78))


def test_every_command_is_given_something() -> None:
    assert sorted(GIVEN.keys() | SERVED.keys()) == sorted(" ".join(words) for words in _commands())


@pytest.fixture(scope="module")
def called(world: Path) -> Callable[[str], Result]:
    """Run a command with both flags, once; what it needs of others is run before it."""
    done: dict[str, Result] = {}

    def call(command: str) -> Result:
        if command in NEEDS:
            call(NEEDS[command])
        if command not in done:
            program, *words = command.split()
            given = GIVEN[command].format(runtime=RUNTIME.cached, id=_id(world))
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(world)
                done[command] = CliRunner().invoke(PROGRAMS[program], [*words, *given.split(), "--json", "--quiet"])
        return done[command]

    return call


NEEDS = {
    **{name: "lhq run" for name in GIVEN if name.startswith("lhq ") and name != "lhq run"},
    "alis resample": "alis panorama",
    "alis plot": "alis train",
}


def _id(world: Path) -> str:
    if not (world / "store").is_dir():
        return ""
    listed = CliRunner().invoke(PROGRAMS["lhq"], ["list", str(world / "p.toml")])
    return listed.stdout.split("\t")[0]


@pytest.mark.parametrize("command", GIVEN)
def test_json_is_all_that_is_said(
    command: str, world: Path, called: Callable[[str], Result], request: pytest.FixtureRequest
) -> None:
    if command == "alis export-web" and not RUNTIME.cached.is_file():
        pytest.skip(f"{RUNTIME.cached} is not here: python -m tests.alis.web.npm fetches it")
    if command == "alis import-published":
        shared: Path = request.getfixturevalue("shared")
        (world / "snapshot.pkl").symlink_to(shared / "fixtures" / "alis-64" / "snapshot.pkl")
    done = called(command)
    assert (done.exit_code, done.stderr) == (0, ""), f"{done.output}\n{done.exception!r}"
    lines = done.stdout.splitlines() if command == "lhq list" else [done.stdout]
    for line in lines:
        told = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert isinstance(told, dict)
        assert told


def test_dry_runs_are_json_too(world: Path) -> None:
    asked = [str(world / "p.toml"), "--dry-run", "--json"]
    plan = json.loads(CliRunner().invoke(PROGRAMS["lhq"], ["crawl", *asked]).stdout)
    assert plan["obstacles"] == []
    assert plan["sources"][0]["source"] == "folder"
    words = ["train", "--data", str(world / "numbered"), "--config", "tiny", "--dry-run", "--json"]
    assert json.loads(CliRunner().invoke(PROGRAMS["alis"], words).stdout)["data"]["num_images"] == 8


def test_a_run_is_one_object_of_its_stages(called: Callable[[str], Result]) -> None:
    told = json.loads(called("lhq run").stdout)
    assert list(told) == ["crawl", "filter", "export"]
    assert told["crawl"]["kept"] == told["filter"]["photos"] >= 3


@pytest.mark.parametrize("command", SERVED)
def test_a_server_says_its_address_as_json(command: str, world: Path) -> None:
    program, *words = command.split()
    words = [sys.executable, "-m", program, *words, *SERVED[command].split(), "--json", "--quiet"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=world, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as at:
        assert at.stdout is not None
        told = json.loads(at.stdout.readline())
        at.send_signal(signal.SIGINT)
        _, said = at.communicate(timeout=60)
    assert told["url"].startswith("http://127.0.0.1:")
    assert said == ""


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_takes_the_colours_away(no_color: str, world: Path, tmp_path: Path) -> None:
    """On a terminal: the bars of a filter, and the help."""
    pty = pytest.importorskip("pty")
    store = painted_store(tmp_path / "store", 2)
    (tmp_path / "p.toml").write_text(f'store = "{store}"\nwant = 2\nqueries = ["a"]\n[filter.size]\nmin_side_px = 16\n')
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    env.pop("NO_COLOR", None)
    said = b""
    for words in (["filter", "p.toml"], ["--help"]):
        host, guest = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "lhq", *words],
            cwd=tmp_path,
            env={**env, **({"NO_COLOR": no_color} if no_color else {})},
            stdin=guest,
            stdout=guest,
            stderr=guest,
        ) as at:
            os.close(guest)
            try:
                while read := os.read(host, 65536):
                    said += read
            except OSError:  # Linux's way to say that the other end is closed
                pass
            os.close(host)
            assert at.wait() == 0
    assert bool(COLOUR.search(said.decode())) is not bool(no_color), said
