"""Every file, pipeline and config that the help, the pages and the messages name is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lhq
from alis.training import recipe
from lhq.pipeline.places import shipped

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))  # what the commands answer to --help is docs/commands.md
FILE = re.compile(r"(?<![\w./~-])(?:docs|tests|benchmarks|lhq|alis|pipelines|queries|fuzz)/[\w./*-]*[\w*/]")
PIPELINE = re.compile(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.toml")
CONFIG = re.compile(r"--config[ =]([\w-]+)(?![\w./-])")
SHIPPED = re.compile(r"\blhq (?:run|crawl|filter|export|status|report|rights) ([a-z0-9][a-z0-9-]*)(?= *[`\n]| --)")
# What a reader has or makes: the page says so where it stands.
OWN = {"mine.toml", "alps.toml", "own.toml", "pyproject.toml", "PIPELINE.toml", "figures.toml"}
OWN |= {"a.toml", "pipelines/a.toml"}  # in docstrings: any
PLACEHOLDERS = re.compile(r"NAME|<|…")
NO_FILES = re.compile(
    r"lhq/(0\.1|photos/\d+\.parquet|photos_per_s|peak_mb|cpu_ms_per_photo)|"  # a user agent, a store, keys of results
    r"(lhq|alis)/?$"
)


def _said() -> Iterator[tuple[str, str]]:
    """(where, text) of every page, and of every string in the code that is not a pattern of names."""
    for page in PAGES:
        yield str(page.relative_to(ROOT)), re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for package in ("lhq", "alis"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def missing(text: str) -> list[str]:
    """Names in a text of files, pipelines and configs that are not there."""
    wrong = []
    for name in FILE.findall(text):
        is_there = any(ROOT.glob(name.rstrip("/"))) if "*" in name else (ROOT / name).exists()
        if name not in OWN and not is_there and not PLACEHOLDERS.search(name) and not NO_FILES.match(name):
            wrong.append(name)
    for name in PIPELINE.findall(text):
        stem = name.removeprefix("pipelines/").removesuffix(".toml")
        if name not in OWN and stem not in shipped() and not (ROOT / name).exists() and not PLACEHOLDERS.search(name):
            wrong.append(name)
    wrong += [
        f"--config {name}" for name in CONFIG.findall(text) if name not in {*recipe.shipped_configs(), "TEXT", "names"}
    ]
    wrong += [name for name in SHIPPED.findall(text) if name not in shipped()]
    return wrong


def test_every_file_that_is_named_is_there() -> None:
    wrong = [f"{where}: {name}" for where, text in _said() for name in missing(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "see docs/nowhere.md",
        "lhq filter pipelines/nosuch.toml",
        "lhq run nosuch\n",
        "alis train --config huge512 --out x",
        "`tests/lhq/nosuch/`",
        "benchmarks/nosuch*.py",
        "(docs/decisions/)",
        "any nosuch.toml",
    ],
)
def test_a_name_that_is_not_there_is_found(text: str) -> None:
    assert missing(text)


def test_every_pipeline_that_comes_with_the_package_reads() -> None:
    for name in shipped():
        loaded = lhq.load(name)
        assert loaded.rules(), name
        assert f"{name}.toml" in (ROOT / "docs/pipeline-file.md").read_text(encoding="utf-8") or any(
            name in page.read_text(encoding="utf-8") for page in PAGES
        ), name
