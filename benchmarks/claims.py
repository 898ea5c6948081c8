"""Results → the figures that README and docs quote: `python benchmarks/claims.py` finds what differs, `--write` mends.

Two ways to quote a result, in any page of `docs/` and in README.md:

- a number with its source right behind it, unseen when rendered: `1.04<!--crawl/lhq_over_img2dataset:.2f-->`;
- a whole table between `<!-- figures -->` and `<!-- /figures -->`, made from `benchmarks/figures.toml`.

A source is a file of `benchmarks/results/` and a path into it: keys joined by `/`, a place in a list by its number or
by `key=value` (`networks/rows/what=frame 256, float32, CPU/times_faster`), and Python's format after the last colon. A
format that ends in `%` gives the number without its sign.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TABLE = ROOT / "benchmarks" / "figures.toml"
_QUOTED = re.compile(r"(?P<said>[-−]?\d[\d,.]*)<!--(?P<source>[^>{}]+?/[^>{}]+?):(?P<format>[,.\d]*[a-z%])-->")
_FIELD = re.compile(r"\{(?P<source>[^{}]+?):(?P<format>[,.\d]*[a-z%])\}")
_MADE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)


def value(source: str, results: Path = RESULTS) -> float:
    """The number that `source` points to.

    Raises:
        LookupError: no such file, key or place, or no number there.
    """
    name, *path = source.split("/")
    return look_up(name, path, results)


def look_up(name: str, path: Sequence[str], results: Path = RESULTS) -> float:
    """The number at a path into `name`.json of the results; raises as `value` does."""
    source = "/".join([name, *path])
    try:
        found = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise LookupError(f"{source}: {error.strerror}: {results.name}/{name}.json") from None
    for key in path:
        try:
            if isinstance(found, list) and "=" in key:
                field, _, wanted = key.partition("=")
                found = next(one for one in found if str(one.get(field)) == wanted)
            else:
                found = found[int(key) if isinstance(found, list) else key]
        except (KeyError, IndexError, ValueError, StopIteration, TypeError):
            raise LookupError(f"{source}: nothing at {key!r}") from None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise LookupError(f"{source}: {found!r} is no number")
    return found


def text(source: str, format: str, results: Path = RESULTS) -> str:
    """The number as a page says it."""
    return f"{value(source, results):{format}}".removesuffix("%")


def table(rows: list[dict[str, str]], results: Path = RESULTS) -> str:
    """`figures.toml` as a Markdown table; each row names the script that takes its figures anew."""

    def filled(cell: str) -> str:
        return _FIELD.sub(lambda field: text(field["source"], field["format"], results), cell)

    lines = ["| what | ours | beside it | taken by |", "|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {filled(row['ours'])} | {filled(row.get('beside', ''))} | `{row['by']}` |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def mended(page: str, rows: list[dict[str, str]], results: Path = RESULTS) -> str:
    """`page` with every quoted figure as the results have it."""

    def quoted(match: re.Match[str]) -> str:
        now = text(match["source"], match["format"], results)
        return f"{now}<!--{match['source']}:{match['format']}-->"

    return _MADE.sub(lambda _: table(rows, results), _QUOTED.sub(quoted, page))


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def differences() -> list[str]:
    """Every line of README and docs that says something else than the results do."""
    rows, found = tomllib.loads(TABLE.read_text(encoding="utf-8"))["row"], []
    for page in pages():
        said = page.read_text(encoding="utf-8")
        for number, (old, new) in enumerate(
            zip(said.splitlines(), mended(said, rows).splitlines(), strict=False), start=1
        ):
            if old != new:
                found.append(
                    f"{page.relative_to(ROOT)}:{number}: says {old.strip()!r}, the results say {new.strip()!r}"
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="mend the pages")
    if parser.parse_args().write:
        rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["row"]
        for page in pages():
            said = page.read_text(encoding="utf-8")
            if (now := mended(said, rows)) != said:
                page.write_text(now, encoding="utf-8")
                print(f"mended {page.relative_to(ROOT)}")
    found = differences()
    print("\n".join(found) if found else "every quoted figure is the one in benchmarks/results")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
