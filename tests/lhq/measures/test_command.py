"""A user's command as a measure: one line in, one line out, whatever happens to the command."""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest

from lhq import pipeline
from lhq.errors import ConfigError
from lhq.measures.command import Command, CommandSettings
from lhq.records import Photo
from tests.lhq.making import add_shard, photo, scene

HEAD = """
import json, os, sys
for line in sys.stdin.buffer:
    asked = json.loads(line)
    name = asked["id"].split(":")[1]
"""
CAPTIONER = (
    HEAD
    + """
    with open(asked["path"], "rb") as file:
        size = len(file.read())
    with open(os.environ["ASKED"], "a") as log:
        log.write(f"{os.getpid()} {name}\\n")
    if name == "killer":
        os._exit(3)
    if name == "shy":
        print(json.dumps({"id": asked["id"], "error": "no-words", "said": "nothing comes to mind"}), flush=True)
        continue
    print(json.dumps({"id": asked["id"], "caption": f"{name} of {size} bytes", "beauty": size / 1e6}), flush=True)
"""
)
READS_BYTES = (
    HEAD
    + """
    data = sys.stdin.buffer.read(asked["bytes"])
    print(json.dumps({"caption": data[:2].hex(), "beauty": 1.0}), flush=True)
"""
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    names = ["one", "two", "killer", "three", "shy"]
    add_shard(tmp_path / "store", 0, [photo(scene(n), name) for n, name in enumerate(names)])
    return tmp_path / "file.toml"


def written(file: Path, program: str, more: str = "", *, run: str = "") -> pipeline.Pipeline:
    script = file.with_name("program.py")
    script.write_text(program)
    file.write_text(f"""
store = "{file.parent / "store"}"
queries = ["mountain lake"]
want = 2
[source.folder]
path = "{file.parent}"
licence = "own"
[filter.size]
min_side_px = 10
[filter.command.captions]
run = {run or f'["{sys.executable}", "{script}"]'}
columns = {{ caption = "string", beauty = "number" }}
{more}
[export]
variants = ["64"]
columns = ["captions_caption"]
""")
    return pipeline.load(file)


def facts(file: Path) -> dict[str, dict[str, object]]:
    rows = pq.read_table(file.parent / "store/facts/captions/000000.parquet").to_pylist()
    return {row["id"].split(":")[1]: row for row in rows}


def test_what_it_says_is_facts_a_limit_and_a_column(file: Path) -> None:
    done = written(file, CAPTIONER, "least = { beauty = 0.001 }").filter(workers=1)
    found = facts(file)
    assert str(found["one"]["caption"]).startswith("one of ")
    assert (found["killer"]["error"], found["killer"]["said"]) == ("crashed", "the command died (exit code 3) on it")
    assert (found["shy"]["error"], found["shy"]["said"]) == ("no-words", "nothing comes to mind")
    assert done.dropped["captions"] == 2
    exported = pipeline.load(file).export({"to": str(file.parent / "out")})
    assert sum(exported.report.written[0].rows.values()) == 3
    rows = datasets.load_dataset(str(file.parent / "out"), cache_dir=str(file.parent / "cache"))["train"]
    assert sorted(caption.split()[0] for caption in rows["captions_caption"]) == ["one", "three", "two"]


def test_it_is_started_once_and_again_only_where_it_died(file: Path) -> None:
    written(file, CAPTIONER).filter(workers=1)
    asked = [line.split() for line in (file.parent / "asked").read_text().splitlines()]
    assert [name for _, name in asked].count("killer") == 2
    assert len({process for process, _ in asked}) == 3  # the first, and one after each death


def test_bytes_come_by_the_pipe_where_that_is_wanted(file: Path) -> None:
    written(file, READS_BYTES, 'input = "bytes"').filter(workers=1)
    assert {row["caption"] for row in facts(file).values()} == {"ffd8"}


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (HEAD + "    print('loading the model', flush=True)\n", "loading the model.*no JSON object"),
        (HEAD + '    print(\'{"caption": "a"}\\n\' * 9, flush=True)\n', "wrote more answers than it was asked for"),
        (HEAD + "    print('x' * 2**21, flush=True)\n", "in a line of 1,048,576 bytes, which is no JSON object"),
        (HEAD + "    print(json.dumps({'beauty': 'very'}), flush=True)\n", "beauty = 'very'.*no number"),
        (HEAD + "    print(json.dumps({'id': 'x:9'}), flush=True)\n", "answered for x:9"),
        (HEAD + '    print(\'{"captions": "a"}\', flush=True)\n', "none of the columns .caption, beauty."),
        (HEAD + "    print('{\"beauty\": 1e999}', flush=True)\n", "beauty = inf of .*, which is no number"),
        (HEAD + "    print('{\"beauty\": ' + 400 * '9' + '}', flush=True)\n", "beauty = 999.*, which is no number"),
        (HEAD + '    print(r\'{"caption": "\\ud800"}\', flush=True)\n', r"caption = '.ud800' of .*no string"),
        (HEAD + "    print('{\"caption\": ' + 9**5 * '[', flush=True)\n", "which is no JSON object"),
    ],
)
def test_what_is_no_answer_is_said_and_nothing_is_written(file: Path, program: str, match: str) -> None:
    done = written(file, program, "batch = 1").filter(workers=1)
    assert len(done.failed) == 1
    import re

    assert re.search(match, done.failed[0].error), done.failed[0].error
    assert not (file.parent / "store/facts/captions/000000.parquet").exists()


@pytest.mark.parametrize(
    ("program", "match"),
    [
        ("raise SystemExit(5)", r"died \(exit code 5\) on each of the first 3 photos"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", r"died \(SIGTERM\) on each"),
        ("import time; time.sleep(60)", "gave no answer in 0.5 s on each"),
    ],
)
def test_a_command_that_never_answers_fails_and_no_photo_is_to_blame(file: Path, program: str, match: str) -> None:
    done = written(file, program, "timeout_s = 0.5").filter(workers=1)
    import re

    assert re.search(match, done.failed[0].error), done.failed[0].error
    assert not (file.parent / "store/facts/captions/000000.parquet").exists()


def test_a_silent_command_is_told_of_while_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lhq.measures.command._LONG_S", 0.05)
    late = "import sys, time; sys.stdin.readline(); time.sleep(0.5); print('{\"n\": 1}', flush=True); sys.stdin.read()"
    command = Command(CommandSettings(run=(sys.executable, "-c", late), columns={"n": "number"}), "slow")
    with caplog.at_level("WARNING", "lhq"):
        one = Photo("x:1", scene(0), 64, 64, format="jpeg")
        assert command.measure([one])["n"].to_pylist() == [1.0]
    assert caplog.text.count("[filter.command.slow]: no answer for 0.05 s; waiting for 600 (timeout_s)") == 1


def test_one_that_ends_by_itself_is_started_again(file: Path) -> None:
    ends = HEAD + "    print(json.dumps({'beauty': float('nan'), 'caption': name}), flush=True); sys.exit()\n"
    written(file, ends).filter(workers=1)
    assert {row["caption"]: (row["error"], row["beauty"]) for row in facts(file).values()} == dict.fromkeys(
        ["one", "two", "killer", "three", "shy"], (None, None)
    )


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_none_is_left_behind_that_does_not_look_at_the_end_of_its_input(file: Path) -> None:
    lingers = HEAD + "    print(json.dumps({'caption': str(os.getpid())}), flush=True)\nimport time; time.sleep(600)\n"
    written(file, lingers).filter(workers=1)
    (process,) = {str(row["caption"]) for row in facts(file).values()}
    status = Path("/proc", process, "stat")
    assert not status.exists() or " Z " in status.read_text()


def test_a_program_that_is_not_there_is_said(file: Path) -> None:
    with pytest.raises(ConfigError, match="captions: no program no-such-program-here"):
        written(file, "", run='["no-such-program-here"]').filter(workers=1)
    program = file.parent / "no-program"
    program.write_bytes(b"\x7fno format that anything could run")
    program.chmod(0o755)
    done = written(file, "", run=f'["{program}"]').filter(workers=1)
    assert "no-program can't be started" in done.failed[0].error


@pytest.mark.parametrize(
    ("more", "match"),
    [("least = { caption = 1.0 }", "caption"), ('input = "pipe"', "input"), ("colums = {}", "columns")],
)
def test_settings_that_do_not_fit_are_refused(file: Path, more: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        written(file, "", more)


@pytest.mark.parametrize(("name", "column"), [("permission", "on"), ("taken", "at"), ("page", "url")])
def test_a_column_that_every_photo_has_already_is_refused(file: Path, name: str, column: str) -> None:
    written(file, CAPTIONER)
    said = file.read_text().replace("[filter.command.captions]", f"[filter.command.{name}]")
    file.write_text(said.replace("caption =", f"{column} ="))
    with pytest.raises(ConfigError, match=f"{name}_{column}, which every photo has already"):
        pipeline.load(file)
