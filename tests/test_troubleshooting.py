"""The page of troubleshooting has a row for every reason of a crawl and for every error that is no mistake in what was
typed, by words that the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import alis.errors
import lhq.errors
from lhq.crawl.reasons import REASONS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
# Mistakes in a file, a flag or a path name the key and the nearest one themselves, and a row's failure has its reason.
SELF_EXPLAINED = {"ConfigError", "InputError", "UserError", "FetchError", "ImageError", "LhqError", "AlisError"}
KINDS = {
    name
    for tree in (lhq.errors, alis.errors)
    for name, kind in vars(tree).items()
    if isinstance(kind, type) and issubclass(kind, lhq.errors.LhqError | alis.errors.AlisError)
} - SELF_EXPLAINED
VARIABLE = "…"


def _rows(heading: str = "") -> list[list[str]]:
    """Quoted phrases of each row's first cell, of the whole page or below one heading."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0] if heading else PAGE
    cells = [re.split(r"(?<!\\)\|", line)[1] for line in part.splitlines() if line.startswith("| ")]
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


def said() -> list[tuple[str, str]]:
    """(where, message) of every error that stops a command, with … for what is filled in."""
    found = []
    for path in [path for package in ("lhq", "alis") for path in sorted((ROOT / package).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KINDS and node.args:
                message = node.args[0]
                if isinstance(message, ast.JoinedStr):
                    parts = [str(one.value) if isinstance(one, ast.Constant) else VARIABLE for one in message.values]
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", "".join(parts)))
                elif isinstance(message, ast.Constant):
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", str(message.value)))
    return found


def has_row(message: str, phrases: list[str]) -> bool:
    """Whether a quoted phrase is said in the message; a phrase that is only … and punctuation must be all of it."""
    return any(
        phrase == message or (len(re.sub(r"[^a-z]", "", phrase)) >= 4 and phrase.removeprefix("…: ") in message)
        for phrase in phrases
    )


def test_every_error_that_stops_a_command_has_a_row() -> None:
    phrases = [phrase for row in _rows() for phrase in row]
    found = said()
    assert len(found) > 80
    without = [f"{where}: {message}" for where, message in found if not has_row(message, phrases)]
    assert not without, "give these a row in docs/troubleshooting.md:\n" + "\n".join(without)


def test_an_error_without_a_row_is_found() -> None:
    phrases = [phrase for row in _rows() for phrase in row]
    assert not has_row("…: the moon is in the way", phrases)
    assert not has_row("none such", phrases)


def test_every_reason_has_a_row() -> None:
    rows = [phrase for row in _rows("Why a photo is not in the store") for phrase in row[:1]]
    assert [name for name in rows if "…" not in name and name in REASONS] == list(REASONS)
    assert all(any(name.startswith(family) for name in rows) for family in ("http-", "robots-"))
