"""The reasons are a closed list: the same in the code, on the page and in the commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lhq.crawl.reasons import REASONS, is_known
from tests.lhq.bad_server import Server, answer
from tests.lhq.services import photo, pipeline, serve
from tests.lhq.typed import Lhq

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/crawl.md").read_text(encoding="utf-8")


def given() -> Iterator[tuple[str, str]]:
    """(file, reason) of every literal that the code gives as the reason of a photo's failure."""
    for room in ("http", "crawl", "sources", "images"):
        for path in sorted((ROOT / "lhq" / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
                    yield path.name, str(node.value.value)
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {"failure", "self._refuse", "_failure"}:
                    yield from ((path.name, str(arg.value)) for arg in node.args[2:] if isinstance(arg, ast.Constant))


def test_every_reason_of_the_code_is_in_the_list() -> None:
    found = [(file, reason) for file, reason in given() if reason != "stopped"]  # remembered of no candidate
    assert len(found) > 25
    assert {(file, reason) for file, reason in found if not is_known(reason)} == set()


def test_the_page_shows_every_reason_and_no_other() -> None:
    rows = PAGE.split("| reason |")[1].split("\n\n")[0].splitlines()
    shown = {word for row in rows for word in re.findall(r"`([a-z0-9-]+)`", row.split("|")[1])}
    assert {reason for reason in shown if not is_known(reason)} == set()
    assert set(REASONS) - shown == set()


def test_a_reason_finds_what_came_by_way_of_a_robots_txt(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(3)})
        server.routes["/robots.txt"] = answer(b"", 500)
        file = pipeline(tmp_path, server, want=3, robots=True, max_attempts=1)
        assert lhq("crawl", file).returncode == 0
        for reason in ("http-500", "robots-http-500"):
            assert len(lhq("list", file, "--reason", reason).stdout.splitlines()) == 3
        server.routes["/robots.txt"] = answer(b"", 404)
        assert lhq("crawl", file, "--retry-failed", "http-500").returncode == 0
        assert len(lhq("list", file, "--status", "kept").stdout.splitlines()) == 3


def test_a_robots_txt_at_a_private_address_is_a_forbidden_address(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server, Server({"/": answer(photo(1))}) as inside:
        serve(server, {"p": photo(0)})
        server.routes["/images/p"] = answer(b"", 302, location=inside.url("/p"))
        file = pipeline(tmp_path, server, want=1, robots=True)
        assert lhq("crawl", file).returncode == 0
        assert lhq("list", file, "--reason", "forbidden-address").stdout.split("\t")[:3] == [
            "unsplash:p",
            "failed",
            "forbidden-address",
        ]
        assert inside.num_connections == 0


@pytest.mark.parametrize(("word", "hint"), [("time-out", 'did you mean "timeout"?'), ("xyz", "the reasons: animated")])
def test_a_word_that_is_no_reason_is_refused(word: str, hint: str, tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {"p": photo(0)})
        file = pipeline(tmp_path, server, want=1)
        lhq("crawl", file)
        done = lhq("list", file, "--reason", word)
        assert done.returncode == 2
        assert hint in done.stderr
