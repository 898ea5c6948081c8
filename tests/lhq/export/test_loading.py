"""The dataset in the hands of those who will load it: datasets, streaming, pyarrow, DuckDB, WebDataset, StyleGAN's zip.

The examples of docs/loading.md are run as they stand there.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from lhq.export import ExportSettings, archives, export
from tests.lhq.making import RIGHTS, Here, files, painted_store

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "loading.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL) if PAGE.exists() else []
NUM = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `DIR`, `DIR-zip` and `DIR-webdataset`."""
    at = tmp_path_factory.mktemp("made")
    store = painted_store(at / "store", NUM)
    settings = ExportSettings(to=str(at / "DIR"), variants=("256", "32-png"), validation=0.2, shard_mb=0.2)
    report = export(str(store), settings, rights_of=RIGHTS, engine=Here())
    names = {one.variant.name: one.folder for one in report.written}
    for format in ("zip", "webdataset"):
        archives.write(report.to, names, format, lambda what, done, of: None)  # type: ignore[arg-type]
    return at


def test_lists_are_written_as_every_version_of_datasets_reads_them(made: Path) -> None:
    """Those before 4 stop at the word "List"; the older form is understood by all."""
    from datasets import Features

    path = next((made / "DIR" / "data").glob("train-*"))
    said = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert said["tags"] == [{"dtype": "string", "_type": "Value"}]
    assert Features.from_dict(said).arrow_schema.field("tags").type == pq.read_schema(path).field("tags").type


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 5


_RUN = """
import contextlib, io, json, os, sys, traceback
told = []
for code in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(code, "example", "exec"), {"__name__": "__main__"})
            error = ""
        except Exception:
            error = traceback.format_exc()
    told.append([error, out.getvalue()])
print(json.dumps(told), flush=True)
os._exit(0)  # streaming leaves Arrow's threads at work, which can crash at exit: huggingface/datasets 7566
"""


@pytest.fixture(scope="module")
def told(made: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(error, what it printed) of every example of the page, each run with names of its own."""
    home = str(tmp_path_factory.mktemp("home"))
    env = {"PATH": "/usr/bin:/bin", "HF_HOME": home, "HF_HUB_OFFLINE": "1", "USE_TORCH": "0"}
    words = [sys.executable, "-c", _RUN]
    done = subprocess.run(
        words, cwd=made, env=env, input=json.dumps(EXAMPLES), capture_output=True, text=True, check=True
    )
    return [(error, shown) for error, shown in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(told: list[tuple[str, str]], number: int) -> None:
    error, shown = told[number]
    assert not error, f"{EXAMPLES[number]}\n{error}"
    assert shown.strip(), f"the example shows nothing:\n{EXAMPLES[number]}"


def originals(made: Path, folder: str, split: str) -> list[bytes]:
    paths = sorted((made / "DIR" / folder).glob(f"{split}-*"))
    return [row["bytes"] for path in paths for row in pq.read_table(path)["image"].to_pylist()]


def test_zip_holds_the_pictures_as_stylegan_lays_them_out(made: Path) -> None:
    with zipfile.ZipFile(made / "DIR-zip" / "32-png-train.zip") as file:
        names = [name for name in file.namelist() if name != "dataset.json"]
        assert names[0] == "00000/img00000000.png"
        assert json.loads(file.read("dataset.json")) == {"labels": None}
        assert [file.read(name) for name in names] == originals(made, "data-32-png", "train")
        with Image.open(io.BytesIO(file.read(names[0]))) as picture:
            assert picture.size == (32, 32)
    assert {"256-train.zip", "256-validation.zip", "manifest.parquet", "CREDITS.parquet", "LICENCES.md"} <= {
        path.name for path in (made / "DIR-zip").iterdir()
    }


def test_tars_hold_pictures_and_papers(made: Path) -> None:
    found = []
    for path in sorted((made / "DIR-webdataset").glob("256-train-*.tar")):
        with tarfile.open(path) as file:
            members = {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
        for name, data in members.items():
            if name.endswith(".jpg"):
                found.append(data)
                papers = json.loads(members[name.replace(".jpg", ".json")])
                assert papers["licence"] == "cc-by-2.0"
                assert papers["fetched_at"].startswith("2026-05-01")
    assert found == originals(made, "data", "train")


def test_archives_are_the_same_every_time(made: Path) -> None:
    before = files(made / "DIR-zip") | files(made / "DIR-webdataset")
    (made / "DIR-zip" / "mine.txt").write_text("kept")
    for format in ("zip", "webdataset"):
        archives.write(str(made / "DIR"), {"256": "data", "32-png": "data-32-png"}, format, lambda *_: None)  # type: ignore[arg-type]
    assert (made / "DIR-zip" / "mine.txt").read_text() == "kept"
    (made / "DIR-zip" / "mine.txt").unlink()
    assert files(made / "DIR-zip") | files(made / "DIR-webdataset") == before
