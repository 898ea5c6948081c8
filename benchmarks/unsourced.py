"""Figures of README and docs that no result gives: `python benchmarks/unsourced.py` lists them and exits 1.

A figure is a number with a unit of time, memory, rate or share. It may stand in prose if

- its source stands behind it, or it is in a made table (`benchmarks/claims.py`), or
- a `[[measured]]` of `benchmarks/figures.toml` names results for its page and heading, and one of their numbers is
  printed so (in its unit or a thousandth, a million of it, or as a share), or
- a `[[plain]]` names the page, the figures as they are printed and the reason: a limit, arithmetic, a published number,
  a profile that is told where its script begins.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_UNIT = (
    r"(?:×(?!\d)|times\b|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|%|[kMG]B\b|[MG]iB\b|photos/s|images/s|Mpx/s|"
    r"(?:pictures |photos |images )?a second)"
)
_FIGURE = re.compile(rf"(?<![\w.`/,-])(?P<number>\d[\d,]*(?:\.\d+)?)\s?{_UNIT}")
_HIDDEN = (
    r"```.*?```",
    r"`[^`\n]*`",
    r"<!-- figures -->.*?<!-- /figures -->",
    r"[-−]?\d[\d,.]*<!--[^>]*-->",
    r"<!--.*?-->",
)
# Made from the code, or dated tellings of what was tried.
_OTHERS = {"log.md", "changelog.md", "commands.md", "pipeline-file.md", "recipe.md"}
_SCALES = (1, 1e3, 1e-3, 1e-6, 1e-9, 100, 1 / 60, 1 / 3600)


@dataclass(frozen=True)
class Figure:
    page: str
    line: int
    heading: str
    said: str
    number: str


def figures(page: str, text: str) -> Iterator[Figure]:
    """Every figure of a page's prose and tables that has no source behind it."""
    for hidden in _HIDDEN:
        text = re.sub(hidden, lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    heading = ""
    for line, said in enumerate(text.splitlines(), 1):
        if said.startswith("#"):
            heading = said.lstrip("# ")
        for found in _FIGURE.finditer(said):
            yield Figure(page, line, heading, found[0], found["number"])


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a result."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def is_printed_from(number: str, values: list[float]) -> bool:
    """Whether one of the values, in some unit, is printed as `number`."""
    plain = number.replace(",", "")
    decimals = len(plain.partition(".")[2])
    whole = plain.rstrip("0") if "." not in plain else plain
    # 720 for 718: a number that ends in zeros was rounded to what stands before them.
    step = 10.0 ** (len(plain) - len(whole)) if "." not in plain and len(whole) >= 2 else 10.0**-decimals
    return any(abs(value * scale - float(plain)) <= step / 2 * 1.0001 for value in values for scale in _SCALES)


def unsourced(pages: dict[str, str], table: dict[str, Any], results: Path) -> list[str]:
    """A line for every figure without a source, and for every `[[plain]]` that no page says any more."""
    plain = {(one["page"], said) for one in table.get("plain", []) for said in one["said"]}
    found, used = [], set()
    for page, text in pages.items():
        for figure in figures(page, text):
            if (page, figure.said) in plain:
                used.add((page, figure.said))
                continue
            values = [
                value
                for one in table.get("measured", [])
                if one["page"] == page and figure.heading == one["heading"]
                for name in one["results"]
                for value in numbers(json.loads((results / f"{name}.json").read_text(encoding="utf-8")))
            ]
            if not is_printed_from(figure.number, values):
                found.append(f"{page}:{figure.line} [{figure.heading}] {figure.said}: in no result")
    return found + [f"{page}: says {said!r} no more; take it out of [[plain]]" for page, said in sorted(plain - used)]


def read_pages() -> dict[str, str]:
    paths = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in _OTHERS)]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    table = tomllib.loads((ROOT / "benchmarks/figures.toml").read_text(encoding="utf-8"))
    found = unsourced(read_pages(), table, ROOT / "benchmarks/results")
    print("\n".join(found) if found else "every figure has its source")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
