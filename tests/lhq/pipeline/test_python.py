"""The Python API: what docs/python.md shows works as written."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lhq
from lhq.errors import ConfigError
from lhq.report import WrittenReport

ROOT = Path(__file__).parents[3]


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples, in order, over a smaller quickstart on a port that is free here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = (ROOT / "pipelines/quickstart.toml").read_text(encoding="utf-8")
    for was, now in (("want    = 160", "want = 24"), ("num_scenes = 300", "num_scenes = 30"), ("= 8210", f"= {port}")):
        assert was in text
        text = text.replace(was, now)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/quickstart.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for example in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        exec(compile(example, "docs/python.md", "exec"), names)
    dataset = names["dataset"]
    assert isinstance(dataset, lhq.pipeline.Exported)
    assert 0 < dataset.report.num_rows <= 24
    assert len(names["rows"]) <= dataset.report.num_rows  # type: ignore[arg-type]
    page = names["page"]
    assert isinstance(page, WrittenReport)
    assert (page.path, page.size_bytes) == ("report.html", (tmp_path / "report.html").stat().st_size)
    assert page.size_bytes > 10_000
    strict = lhq.Pipeline(names["file"]).filter(judge_only=True)  # type: ignore[arg-type]
    assert page.num_photos == strict.num_photos
    assert page.num_kept == dataset.report.num_rows > strict.num_kept


def test_import_costs_nothing_and_names_are_plain() -> None:
    code = "import lhq, sys; print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'pyarrow', 'pydantic'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert lhq.Pipeline is type(lhq.load(ROOT / "pipelines/quickstart.toml"))
    with pytest.raises(AttributeError, match="nosuch"):
        lhq.nosuch  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no such pipeline file"):
        lhq.load("nosuch.toml")
