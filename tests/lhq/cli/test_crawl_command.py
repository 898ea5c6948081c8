"""The commands as typed: one clear line on mistakes, data on stdout, messages on stderr, exact exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lhq.bad_server import Server, answer
from tests.lhq.services import photo, pipeline, serve
from tests.lhq.typed import Lhq

ROOT = Path(__file__).parents[3]


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lhq", "crawl", "nowhere.toml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lhq: nowhere.toml: no such pipeline file")


def test_plan_crawl_status_list(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(6)})
        server.routes["/images/p5"] = answer(b"", 404)
        path = pipeline(tmp_path, server, want=20)

        planned = lhq("crawl", path, "--dry-run")
        assert (planned.returncode, planned.stderr) == (0, "")
        assert "20 photos wanted, 0 kept already, 1 queries" in planned.stdout
        assert server.seen == [], "nobody was asked"
        assert not (tmp_path / "store").exists(), "nothing was made"

        nothing = lhq("status", path)
        assert (nothing.returncode, nothing.stdout) == (2, "")
        assert "no crawl was started here" in nothing.stderr

        done = lhq("crawl", path)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.splitlines()[-1] == "kept 5 of 20 · new 5 · failed attempts: http-404 1"

        status = json.loads(lhq("status", path, "--json").stdout)
        assert (status["num_candidates"], status["num_kept"], status["num_failed"], status["num_waiting"]) == (
            6,
            5,
            1,
            0,
        )
        assert (status["kept"], status["failed"], status["judged"]) == ({"unsplash": 5}, {"http-404": 1}, None)
        words = lhq("status", path, "--queries").stdout
        assert "candidates 6 = kept 5 + waiting 0 + failed 1" in words
        assert "lake" in words

        rows = [line.split("\t") for line in lhq("list", path).stdout.splitlines()]
        assert rows[0] == ["unsplash:p0", "kept", "", "1"]
        assert rows[5] == ["unsplash:p5", "failed", "http-404", "1"]
        failed = [json.loads(line) for line in lhq("list", path, "--status", "failed", "--json").stdout.splitlines()]
        assert [(each["id"], each["reason"]) for each in failed] == [("unsplash:p5", "http-404")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("permission = ", "order_by = 'latest' # "), "states no permission"),
        (("permission = ", "permision = "), 'did you mean "permission"'),
        (("permission = ", "permission = 'letter: training is fine' # "), "a sentence allows nothing by itself"),
        (('permits = ["train"]', 'permits = ["trian"]'), 'did you mean "train"'),
        (('permits = ["train"]', "permits = []"), "permission.permits = []: it lists nothing"),
        (('permits = ["train"]', 'permits = "train"'), 'a list is meant; write permission.permits = ["train"]'),
        (('permits = ["train"]', 'permits = ["train"], onn = 2'), 'unknown key "permission.onn"; did you mean "perm'),
        (('permits = ["train"]', 'permits = ["train"], on = 2999-01-01'), "permission.on = 2999-01-01: a permission"),
        (("permission = ", "permission = ['train'] # "), "a table is meant, with the words that allow it"),
        (("a test's own pictures", " "), "a permission without its words is none"),
        (("min_side_px = 48", "min_side_px = 'x'"), "min_side_px"),
        (("per_host", "per_hots"), "per_host"),
        (("want = 3", "want = 0"), "want"),
        (("[source.unsplash]", "[source.unsplahs]"), 'did you mean "unsplash"'),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, lhq: Lhq, change: tuple[str, str], words: str) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        path = pipeline(tmp_path, server, want=3, per_host=2)
        path.write_text(path.read_text().replace(*change))
        done = lhq("crawl", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert words in done.stderr


def test_a_missing_key_is_named_and_a_given_one_never_shown(
    tmp_path: Path, lhq: Lhq, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        f"store = '{tmp_path}/s'\nqueries = ['a']\nwant = 1\n[source.unsplash]\n"
        "permission = { permits = ['train'], statement = 'x' }\n"
        "api = 'http://127.0.0.1:9'\n[http]\nmax_attempts = 1\n"
    )
    done = lhq("crawl", path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "UNSPLASH_ACCESS_KEY is not set" in done.stderr
    monkeypatch.setenv("UNSPLASH_ACCESS_KEY", "s3cret")
    done = lhq("crawl", path)
    assert done.returncode == 1
    assert "not a public address" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_service_that_is_down(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        path = pipeline(tmp_path, server, want=3, max_attempts=2)
    done = lhq("crawl", path)
    assert done.returncode == 1
    assert "can't connect" in done.stderr
    assert "Traceback" not in done.stderr
