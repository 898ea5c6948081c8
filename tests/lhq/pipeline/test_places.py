"""Where the files of a pipeline are, and text files in common encodings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lhq
from lhq.errors import ConfigError
from lhq.intake.papers import read_papers
from lhq.pipeline.places import shipped
from lhq.takedown.remove import read_names
from tests.lhq.making import scene
from tests.lhq.typed import Lhq

ROOT = Path(__file__).parents[3]
TEXT = 'store = "data/set"\nwant = 3\nqueries = "words"\n[source.folder]\npath = "../pictures"\n[export]\nto = "out"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "project/words").mkdir(parents=True)
    (tmp_path / "project/words/a.txt").write_text("lake\n")
    path = tmp_path / "project/set.toml"
    path.write_text(TEXT)
    return path


def test_paths_are_relative_to_the_file_wherever_lhq_is_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for place, given in (("/", file), (tmp_path, Path("project/set.toml")), (file.parent, Path("set.toml"))):
        monkeypatch.chdir(place)
        found = lhq.load(given).file
        assert (found.store, found.local) == (str(file.parent / "data/set"),) * 2
        assert found.sources["folder"].path == str(tmp_path / "pictures")  # type: ignore[attr-defined]
        assert found.export.to == str(file.parent / "out")
        assert [query.text for query in found.queries] == ["lake"]
    assert caplog.text == ""


def test_a_store_of_an_earlier_version_is_found_where_lhq_is_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until now paths were relative to the working directory: files there are used, with one warning."""
    (tmp_path / "data/set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert lhq.load("project/set.toml").file.store == str(tmp_path / "data/set")
    assert [record.getMessage() for record in caplog.records] == [
        'project/set.toml: "data/set" is in the working directory, not next to the file; '
        '"../data/set" is found from anywhere'
    ]
    (tmp_path / "project/data/set").mkdir(parents=True)
    assert lhq.load("project/set.toml").file.store == str(tmp_path / "project/data/set"), "beside the file goes first"


def test_what_comes_with_the_package_has_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "quickstart" in shipped()
    for given in ("quickstart", "quickstart.toml", "pipelines/quickstart.toml"):
        assert lhq.load(given).file.store == str(tmp_path / "data/quickstart")
    assert len(lhq.load("lhq-90k").file.queries) == 400
    Path("quickstart").write_text(TEXT)
    with pytest.raises(ConfigError, match="words"):
        lhq.load("quickstart")  # a file of one's own goes first


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("quikstart", "quikstart: no such pipeline file; did you mean quickstart?"),
        ("project/sett.toml", "did you mean project/set.toml?"),
        ("project", "project: is a folder"),
        ("zzzzz.toml", "lhq init writes one; with the package come commons, "),
    ],
)
def test_a_typo_is_answered_by_the_nearest(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        lhq.load(given)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_text_files_as_people_have_them(tmp_path: Path, kind: str) -> None:
    """Byte-order marks and Windows line ends are accepted; an unknown encoding is an error, never guessed."""
    text = 'store = "s"\r\nwant = 3\r\nqueries = "q.txt"\r\n# Fjällräven\r\n'
    (tmp_path / "p.toml").write_bytes(text.encode(kind))
    (tmp_path / "q.txt").write_bytes("fjäll\r\nsee # ein Kommentar\r\n".encode(kind))
    (tmp_path / "ids.txt").write_bytes("flickr:1\r\nflickr:2\r\n# fjäll\r\n".encode(kind))
    (tmp_path / "papers.csv").write_bytes('file,author\r\na.jpg,"Fjäll, Åsa"\r\n'.encode(kind))
    if kind in {"utf-8-sig", "utf-16"}:
        assert [query.text for query in lhq.load(tmp_path / "p.toml").file.queries] == ["fjäll", "see"]
        assert read_names(str(tmp_path / "ids.txt")) == ["flickr:1", "flickr:2"]
        assert read_papers(str(tmp_path / "papers.csv")) == {"a.jpg": {"author": "Fjäll, Åsa"}}
        return
    looks = "UTF-16 without its mark" if kind == "utf-16-le" else "an 8-bit code page"
    with pytest.raises(ConfigError, match=f"p.toml: is not UTF-8.*it looks like {looks}"):
        lhq.load(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigError, match=f"q.txt is not UTF-8.*it looks like {looks}"):
        lhq.load(tmp_path / "p.toml")


def test_the_wheel_has_all_it_needs(tmp_path: Path) -> None:
    """Built and unpacked away from the checkout, the packaged pipelines open with their queries."""
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns(
        ".git", "build", "*.egg-info", "tests", "benchmarks", "data", "runs", ".venv", "site"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=skipped)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(tmp_path), str(source)], check=True, timeout=250)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = "import lhq; f = lhq.load('lhq-90k').file; print(len(f.queries), f.store, lhq.__file__)"
    (tmp_path / "empty").mkdir()
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "empty", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["400", str(tmp_path / "empty/data/lhq-90k"), str(tmp_path / "site/lhq/__init__.py")]


@pytest.mark.parametrize("source", ["sandbox", "flickr", "unsplash", "commons", "folder", "unsplash_dataset"])
def test_init_writes_a_file_that_reads(tmp_path: Path, lhq: Lhq, source: str) -> None:
    path = tmp_path / "mine.toml"
    words = [
        "init",
        path,
        "--source",
        source,
        "--folder",
        "pictures",
        "--queries",
        'alpine "lake", glacier',
        "--want",
        7,
    ]
    done = lhq(*words)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    from lhq.pipeline import load

    made = load(path).file
    assert [query.text for query in made.queries] == ['alpine "lake"', "glacier"]
    assert (made.want, made.store) == (7, str(tmp_path / "data/mine"))
    assert list(made.filters) == ["size", "duplicates"] + ["objects"] * (source != "folder")
    text = path.read_text(encoding="utf-8")
    assert "permission = { permits" in text or source != "unsplash"
    again = lhq(*words)
    assert again.returncode == 2
    assert "is there already; give another name, or --force" in again.stderr
    assert lhq(*words, "--force").returncode == 0
    assert path.read_text(encoding="utf-8") == text


def test_own_photographs_from_init_to_export(tmp_path: Path, lhq: Lhq) -> None:
    """No queries, no number, no key, nothing to edit: a folder of pictures becomes a dataset."""
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / f"pictures/{number}.jpg").write_bytes(scene(number))
    path = tmp_path / "mine.toml"
    done = lhq("init", path, "--source", "folder", "--folder", "pictures", "--min-side", 128)
    assert done.returncode == 0, done.stderr
    text = path.read_text(encoding="utf-8")
    assert "queries" not in text
    assert "want" not in text
    plan = lhq("crawl", path, "--dry-run")
    assert plan.returncode == 0
    assert plan.stdout.startswith("all photos of folder, read in place: no calls")
    done = lhq("run", path)
    assert done.returncode == 0, done.stderr
    assert "kept 3 · new 3" in done.stderr
    assert lhq("verify", tmp_path / "data/mine/export").returncode == 0
    assert lhq("status", path).stdout.splitlines()[1].startswith("kept       3, ")
    assert json.loads(lhq("status", path, "--json").stdout)["want"] is None
    (tmp_path / "pictures/4.jpg").write_bytes(scene(4))
    assert "kept 4 · new 1" in lhq("crawl", path).stderr


def test_a_network_needs_a_number(tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "p.toml").write_text('store = "s"\nqueries = ["lake"]\n[source.flickr]\n')
    done = lhq("crawl", tmp_path / "p.toml", "--dry-run")
    assert done.returncode == 2
    assert '"want" is missing; add a line want = …, how many photos to fetch' in done.stderr


def test_init_without_answers_and_nobody_to_ask(tmp_path: Path, lhq: Lhq) -> None:
    done = lhq("init", tmp_path / "mine.toml")
    assert done.returncode == 2
    assert "no source; give --source: sandbox, flickr" in done.stderr
    assert not (tmp_path / "mine.toml").exists()


def test_init_leaves_no_file_that_does_not_read(tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "mine.toml").write_text("mine")
    done = lhq("init", tmp_path / "mine.toml", "--source", "flickr", "--queries", "nowhere.txt", "--force")
    assert done.returncode == 2
    assert "nowhere.txt" in done.stderr
    assert (tmp_path / "mine.toml").read_text() == "mine"
