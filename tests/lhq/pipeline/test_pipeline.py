"""Mistakes in a pipeline file are found when it is read, each in one line with the next move."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lhq.cli import cli
from lhq.errors import ConfigError
from lhq.pipeline import load
from tests.lhq.making import painted_store
from tests.lhq.typed import Lhq

GOOD = 'store = "s"\nwant = 3\nqueries = ["lake"]\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("3", "true"), "want = true: neither true nor false is meant here"),
        (GOOD.replace("want = 3\n", ""), '"want" is missing; add a line want = …'),
        (GOOD.replace('["lake"]', "5"), "queries = 5: "),
        (GOOD + "[filter.size]\nmax_aspect = false\n", "[filter.size]: max_aspect = false: "),
        (GOOD + "[filter]\nsize = 3\n", "[filter.size] = 3 is not a table; write [filter.size]"),
        (
            GOOD + '[export]\nvariants = ["1024", "huge"]\n',
            "[export]: variants = ['1024', 'huge']: \"huge\" is not a variant",
        ),
        (GOOD + '[export]\nvariants = ["64", "64"]\n', "one is named twice"),
        (GOOD + '[export]\nlicences = ["comercial-ok"]\n', '"comercial-ok" is neither a subset nor a licence'),
    ],
)
def test_a_mistake_is_found_when_the_file_is_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "p.toml")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/p.toml")
    assert "Value error" not in str(caught.value)


def test_what_is_true_or_false_by_nature_stays_so(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(GOOD + "[http]\nrobots = false\n")
    assert load(tmp_path / "p.toml").file.http.robots is False


def test_a_plan_without_sources_is_none(tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "p.toml").write_text(GOOD)
    done = lhq("crawl", tmp_path / "p.toml", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no source to crawl; add [source.NAME]: unsplash, flickr" in done.stderr


STEADY = "import sys\nfor line in sys.stdin: print('{\"steady\": 1}', flush=True)"


def test_export_warns_that_the_verdicts_were_made_with_other_settings(tmp_path: Path, lhq: Lhq) -> None:
    painted_store(tmp_path / "s", 3)
    file = tmp_path / "p.toml"
    text = f'store = "{tmp_path}/s"\nwant = 3\nqueries = ["a"]\n[export]\nvariants = ["64"]\n'
    text += f"[filter.command.steady]\nrun = {json.dumps([sys.executable, '-c', STEADY])}\n"
    text += 'columns = { steady = "number" }\n[filter.size]\n'
    file.write_text(text + "min_side_px = 100\n")
    assert lhq("filter", file, "--workers", 1).returncode == 0
    assert "other [filter] settings" not in lhq("export", file).stderr
    file.write_text(text + "min_side_px = 120\n")
    done = lhq("export", file)
    assert done.returncode == 0
    assert f"judged by other [filter] settings than {file} has now; to judge anew: lhq filter {file} --judge-only" in (
        done.stderr
    )


def test_commands_are_listed_whole_and_the_nearest_is_offered() -> None:
    listed = " ".join(CliRunner().invoke(cli, ["--help"]).output.partition("Commands:")[2].split())
    assert "..." not in listed
    assert "crawl Search the sources and fetch photos until the store holds as many as wanted." in listed
    done = CliRunner().invoke(cli, ["staus"])
    assert (done.exit_code, 'No such command "staus"; did you mean "status"?' in done.output) == (2, True)
