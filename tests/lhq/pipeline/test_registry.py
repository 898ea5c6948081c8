"""Measures, sources and engines of installed packages, and every way in which one can be wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

import lhq
from lhq.errors import ConfigError
from lhq.pipeline.registry import MEASURES, SOURCES, SourceRights
from tests.lhq.making import add_shard, photo, scene

ROOT = Path(__file__).parents[3]
TOP = 'store = "s"\nwant = 3\nqueries = ["lake"]\n'


def package(place: Path, name: str, points: str, code: str = "") -> None:
    """An installed package: its module and what its metadata says."""
    place.mkdir(exist_ok=True)
    info = place / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    (place / f"{name}.py").write_text(code)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def test_the_example_package_is_installed_and_runs(tmp_path: Path) -> None:
    """pip installs it; a command in a process of its own filters by it and draws it in the report."""
    shutil.copytree(ROOT / "docs/example-measure", tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(tmp_path / "source")], check=True, timeout=200)
    rows = [photo(scene(n), f"day{n}") for n in range(3)] + [photo(_dark(), "night"), photo(scene(4)[:900], "cut")]
    add_shard(tmp_path / "store", 0, rows)
    file = tmp_path / "p.toml"
    file.write_text(
        f'store = "{tmp_path}/store"\nwant = 5\nqueries = ["a"]\n[filter.daylight]\nmin_brightness = 0.15\n'
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lhq", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    done = run("filter", str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["dropped"] == {"daylight": 2}
    verdicts = pq.read_table(tmp_path / "store/verdicts.parquet").to_pylist()
    details = {row["id"]: row["detail"] for row in verdicts if not row["kept"]}
    assert set(details) == {"flickr:night", "flickr:cut"}
    assert details["flickr:night"].startswith("brightness 0.0")
    assert run("report", str(file), "-o", "report.html").returncode == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Was it taken by day?" in page
    assert "Mean brightness" in page
    file.write_text(file.read_text().replace("min_brightness", "min_brigthness"))
    wrong = run("filter", str(file))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert 'unknown key "min_brigthness"; did you mean "min_brightness"?' in wrong.stderr


def _dark() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 480), (4, 6, 12)).save(out, "JPEG")
    return out.getvalue()


SOURCE = """
from lhq.records import Candidate
from lhq.rights.licences import Rights
from lhq.sources import Limits, Page, Source, SourceSettings

class ShelfSettings(SourceSettings):
    shelf: str

class Shelf(Source):
    name = "shelf"
    settings_class = ShelfSettings
    is_local = True
    rights = Rights("user", "user", "user", "the word of the shelf's owner")
    limits = Limits(0, 0, 1_000_000, 100.0)
    is_local = True

    def __init__(self, settings, client):
        self.settings = settings

    def search(self, query, cursor):
        import os
        names = sorted(os.listdir(self.settings.shelf)) if query.text == "all" else []
        found = (Candidate("shelf", n, f"file:{n}", "", "Me", "", "own", query.text) for n in names)
        return Page(tuple(found), None)

    def queries(self, asked):
        from lhq.records import Query
        return [Query("all")]

    def read(self, candidate):
        with open(f"{self.settings.shelf}/{candidate.source_id}", "rb") as file:
            return file.read()
"""
ENGINE = """
from lhq.engines import Engine

class Backwards(Engine):
    def __init__(self, workers=0, *, address=""):
        self.workers = workers
    def map(self, job, keys, lane):
        return map(job, reversed(keys))
"""


def test_a_source_and_an_engine_of_ones_own(tmp_path: Path, place: Path) -> None:
    package(
        place,
        "shelfpack",
        "[lhq.sources]\nshelf = shelfpack:Shelf\n[lhq.engines]\nback = shelfpack:Backwards\n",
        SOURCE + ENGINE,
    )
    (tmp_path / "shelf").mkdir()
    for n in range(3):
        (tmp_path / "shelf" / f"{n}.jpg").write_bytes(scene(n))
    file = tmp_path / "p.toml"
    file.write_text(
        f'store = "{tmp_path}/store"\nwant = 3\nqueries = ["lake"]\nengine = "back"\n'
        f'[source.shelf]\nshelf = "{tmp_path}/shelf"\nmin_side_px = 100\n'
        '[filter.size]\nmin_side_px = 100\n[export]\nvariants = ["64"]\n'
    )
    pipeline = lhq.load(file)
    assert pipeline.plan().num_kept == 0
    assert pipeline.crawl().num_kept == 3
    assert pipeline.filter().num_kept == 3
    assert pipeline.export().report.num_rows == 3
    assert SourceRights()["shelf"].note == "the word of the shelf's owner"
    assert {"shelf", "flickr", "zip"} <= set(SourceRights())


@pytest.mark.parametrize(
    ("points", "code", "said"),
    [
        ("[lhq.measures]\nsize = clash:X\n", "X = 1", '"size" is offered by lhq and clash; uninstall all but one'),
        ("[lhq.measures]\nmine = clash:Gone\n", "", "of package clash can't be imported"),
        (
            "[lhq.measures]\nmine = clash:X\n",
            "import nosuchmodule",
            "can't be imported (No module named 'nosuchmodule')",
        ),
        ("[lhq.measures]\nmine = clash:X\n", "class X: name = 'mine'", "of package clash has no schema, lane, "),
    ],
)
def test_an_unusable_package_is_named(tmp_path: Path, place: Path, points: str, code: str, said: str) -> None:
    package(place, "clash", points, code)
    name = points.split("\n")[1].split(" ")[0]
    (tmp_path / "p.toml").write_text(TOP + f"[filter.{name}]\n")
    with pytest.raises(ConfigError) as caught:
        lhq.load(tmp_path / "p.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/p.toml [filter.{name}]: ")


def test_two_packages_of_one_name_are_refused_and_others_are_no_matter(tmp_path: Path, place: Path) -> None:
    package(place, "one", "[lhq.measures]\nmine = one:X\n")
    package(place, "two", "[lhq.measures]\nmine = two:X\n")
    (tmp_path / "p.toml").write_text(TOP + "[filter.mine]\n")
    with pytest.raises(ConfigError, match=r'"mine" is offered by (one and two|two and one)'):
        lhq.load(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text(TOP + "[filter.size]\n")
    assert list(lhq.load(tmp_path / "p.toml").file.filters) == ["size"]
    (tmp_path / "p.toml").write_text(TOP + "[filter.mien]\n")
    with pytest.raises(ConfigError, match='unknown key "mien"; did you mean "mine"'):
        lhq.load(tmp_path / "p.toml")
    assert MEASURES.names()[-1] == "mine"
    assert SOURCES.names()[:2] == ["unsplash", "flickr"]


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('engine = "locl"\n' + TOP)
    with pytest.raises(ConfigError, match='engine = "locl": no such engine; did you mean "local"'):
        lhq.load(tmp_path / "p.toml")
