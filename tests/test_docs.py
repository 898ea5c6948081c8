"""The documentation says what the code does: reference pages, every key, every link, every quoted figure."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pydantic
import pytest

from lhq.pipeline import template
from lhq.pipeline.registry import MEASURES, SOURCES

ROOT = Path(__file__).parents[1]


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return script("docs/reference.py")


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    return script("benchmarks/claims.py")


def test_reference_pages_are_what_the_code_says() -> None:
    words = [sys.executable, str(ROOT / "docs" / "reference.py"), "--check"]  # a process of its own, as people run it
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_key_is_explained(reference: ModuleType) -> None:
    silent = [
        f"{name}: {line}"
        for name in ("pipeline-file.md", "recipe.md")
        for line in (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.rstrip().endswith("|  |")
    ]
    assert not silent, "give these settings a docstring below their line:\n" + "\n".join(silent)


def test_a_key_without_a_docstring_is_seen(reference: ModuleType) -> None:
    assert "| `seen` | integer | `1` |  |" in reference.keys(_Unexplained)


class _Unexplained(pydantic.BaseModel):
    seen: int = 1


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("crawl.md", [f"[source.{name}]" for name in SOURCES.own]),
        ("filter.md", [f"[filter.{name}" for name in MEASURES.own]),
    ],
)
def test_every_source_and_measure_is_described(page: str, names: list[str]) -> None:
    """Beyond its table of keys: where it comes from, or what it drops, in words."""
    said = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in names if name not in said] == []


def test_init_offers_every_source() -> None:
    assert {*template.SOURCES} == {*SOURCES.own, "sandbox"}


def test_the_site_builds_with_every_link_whole(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "https://fonts." not in page, "a reader's browser is sent nowhere else"


def test_every_quoted_figure_is_the_one_in_the_results(claims: ModuleType) -> None:
    found = claims.differences()
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def bare() -> ModuleType:
    return script("benchmarks/unsourced.py")


def test_every_figure_has_a_source_or_a_reason(bare: ModuleType) -> None:
    table = tomllib.loads((ROOT / "benchmarks/figures.toml").read_text(encoding="utf-8"))
    assert all(one["why"] for one in table["plain"])
    found = bare.unsourced(bare.read_pages(), table, ROOT / "benchmarks/results")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("said", "is_found"),
    [
        ("takes 12.5 s", False),
        ("takes 12.6 s", True),
        ("12,500 ms", False),
        ("81 % of it", True),
        ("80 % of it", False),
        ("2.0 times as fast", True),
        ("`3 s` in code, and 0.5 s<!-- a word -->", False),
        ("7 a second", True),
    ],
)
def test_a_figure_without_a_source_is_found(bare: ModuleType, tmp_path: Path, said: str, is_found: bool) -> None:
    (tmp_path / "rate.json").write_text(json.dumps({"rows": [{"s": 12.49, "share": 0.8}]}))
    table = {
        "measured": [{"page": "a.md", "heading": "Figures", "results": ["rate"]}],
        "plain": [{"page": "a.md", "said": ["0.5 s"], "why": "a limit"}],
    }
    page = f"# Top\n## Figures\n{said}; never 0.5 s\n"
    assert bool(bare.unsourced({"a.md": page}, table, tmp_path)) is is_found
    assert bare.unsourced({"a.md": page.replace("never 0.5 s", "").replace("0.5 s", "")}, table, tmp_path)


def test_a_figure_that_differs_is_found_and_mended(claims: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "crawl.json").write_text(json.dumps({"ratio": 1.2345, "rows": [{"what": "a", "s": 0.5}]}))
    page = (
        "1.04<!--crawl/ratio:.2f--> × and 50<!--crawl/rows/what=a/s:.0%--> %\n"
        "<!-- figures -->\nold\n<!-- /figures -->\n"
    )
    rows = [{"what": "rate", "ours": "{crawl/ratio:.1f} ×", "by": "benchmarks/crawl.py"}]
    mended = claims.mended(page, rows, tmp_path)
    assert mended.startswith("1.23<!--crawl/ratio:.2f--> × and 50<!--crawl/rows/what=a/s:.0%--> %\n")
    assert "| rate | 1.2 × |  | `benchmarks/crawl.py` |" in mended
    assert "old" not in mended
    assert claims.mended(mended, rows, tmp_path) == mended


@pytest.mark.parametrize("source", ["crawl/nothing", "nowhere/ratio", "crawl/rows/what=b/s", "crawl/rows"])
def test_a_source_that_points_nowhere_is_an_error(claims: ModuleType, tmp_path: Path, source: str) -> None:
    (tmp_path / "crawl.json").write_text(json.dumps({"ratio": 1.2345, "rows": [{"what": "a", "s": 0.5}]}))
    with pytest.raises(LookupError, match=source.split("/")[0]):
        claims.value(source, tmp_path)
