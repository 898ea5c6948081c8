"""A picture that kills its decoder costs one start; every later one leaves it out by name, and changes nothing else."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alis.data import Catalogue, Loader, RankSlice, ReadOptions, guarded, open_catalogue
from alis.data.crashes import CRASHED
from alis.data.decode_notes import Crash, Crashes, DecodeNotes, left_behind
from tests.alis import reckless, sets
from tests.alis.training.runs import flags

NUM = 64
KILLERS = (0, 41)
ONE = RankSlice(8, 8)


def pictures(number: int, size: int) -> bytes:
    return reckless.tame(sets.numbered(number, size)) if number not in KILLERS else reckless.killer()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """64 pictures of a plugin's format, two of which kill."""
    return str(sets.write(tmp_path_factory.mktemp("set"), NUM, per_file=NUM, paint=pictures))


def python(code: str, *words: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=reckless.ROOT, env=env, capture_output=True, text=True, check=False
    )


def shown(catalogue: Catalogue) -> list[int]:
    """The number of the picture at each position of the first epoch."""
    with Loader(catalogue, 16, ONE, ReadOptions(num_lanes=1), stop=NUM) as loader:
        return [sets.number_of(picture) for batch in loader for picture in batch.numpy()]


SHOW = """
import json, sys
from alis.data import guarded, open_catalogue
from tests.alis.data.test_crashes import shown
catalogue = guarded(open_catalogue(sys.argv[1]), 16)
print(json.dumps([sorted(catalogue.crashes.rows), shown(catalogue)]))
"""
NOTE = """
import os, signal, sys
from pathlib import Path
from alis.data.decode_notes import DecodeNotes
notes = DecodeNotes(Path(sys.argv[1]), sys.argv[2], 2)
with notes.of_thread() as note:
    for row in sys.argv[3:]:
        note([(int(row) // 20, int(row) % 20)])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killer_costs_one_start_and_the_next_names_it(data: str, tmp_path: Path) -> None:
    env, cache = reckless.environment(tmp_path), tmp_path / "cache/decoding"
    rows = [(0, 0), (2, 1)]
    starts = [python(SHOW, data, env=env)]
    while starts[-1].returncode and len(starts) <= len(rows):
        assert starts[-1].returncode < 0, starts[-1].stderr
        assert len(list(cache.glob(".decoding-*"))) == 1
        starts.append(python(SHOW, data, env=env))
        assert "the last start ended while" in starts[-1].stderr
    done = starts[-1]
    assert len(starts) > 1  # two, if both threads were at a killer
    assert done.returncode == 0, done.stderr
    known, seen = json.loads(done.stdout)
    assert known == [list(row) for row in rows]
    for number in KILLERS:
        said = rf"row {number} \({number}\.png\): it kills its decoder \(SIG[A-Z]+\)"
        assert re.search(f"bad image left out: .*{said}", done.stderr), done.stderr
    lines = [json.loads(line) for line in (cache / CRASHED).read_text().splitlines()]
    assert sorted((line["group"], line["row"]) for line in lines) == rows
    assert [path.name for path in cache.iterdir()] == [CRASHED]
    assert set(seen) == set(range(NUM)) - set(KILLERS)


def test_training_goes_on_without_the_picture_that_killed_it(data: str, tmp_path: Path) -> None:
    run, env = tmp_path / "run", reckless.environment(tmp_path)
    (tmp_path / "run").mkdir()
    fingerprint = open_catalogue(data).fingerprint
    (run / CRASHED).write_text(json.dumps({"data": fingerprint, "group": 2, "row": 1, "name": "b", "how": "SIGABRT"}))
    line = [sys.executable, "-m", "alis", "train", "--data", data, "--config", "tiny", "--device", "cpu"]
    line += ["--out", str(run), *flags(run__kimg=NUM / 1000, run__snapshot_ticks=4)]
    died, done = (
        subprocess.run(line, cwd=reckless.ROOT, env=env, capture_output=True, text=True, check=False) for _ in range(2)
    )
    assert died.returncode < 0, died.stderr
    assert done.returncode == 0, done.stderr
    assert re.search(r"the last start ended while .*0\.png\) was decoded: it kills its decoder \(SIG", done.stderr)
    assert f"{run / CRASHED} lists it" in done.stderr
    assert len((run / CRASHED).read_text().splitlines()) == 2
    assert not list(run.glob(".decoding-*"))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["images"] == NUM


def test_other_positions_show_the_same_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = open_catalogue(str(sets.write(tmp_path, NUM)))
    killers = {(number // 20, number % 20): Crash("", "SIGABRT") for number in KILLERS}
    whole = shown(catalogue)
    with caplog.at_level(logging.WARNING, "alis"):
        rest = shown(replace(catalogue, crashes=Crashes(tmp_path, killers)))
    assert {number for number, now in zip(whole, rest, strict=True) if number != now} == set(KILLERS)
    assert not set(rest) & set(KILLERS)
    assert all(f"row {number} ({number}.png): it kills its decoder (SIGABRT)" in caplog.text for number in KILLERS)
    assert not list(tmp_path.glob(".decoding-*"))


def test_rows_of_every_killed_process_are_tried_and_of_no_living_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue, run = open_catalogue(str(sets.write(tmp_path / "set", NUM))), tmp_path / "run"
    env = reckless.environment(tmp_path)
    killed = [(catalogue.fingerprint, ("3",)), (catalogue.fingerprint, ("22", "3")), ("of other data", ("7",))]
    for fingerprint, rows in killed:
        assert python(NOTE, str(run), fingerprint, *rows, env=env).returncode == -signal.SIGKILL
    living = DecodeNotes(run, catalogue.fingerprint, 1)
    with living.of_thread() as note:
        note([(0, 9)])

    def interrupted() -> None:
        with left_behind(run, catalogue.fingerprint) as left:
            assert sorted(left) == [(0, 3), (1, 2)]
            raise KeyboardInterrupt

    for _ in range(2):  # what was not tried to the end is tried again
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    with caplog.at_level(logging.INFO, "alis"):
        assert guarded(catalogue, 16, run).crashes == Crashes(run, {})
    assert "was killed, but by none of the 2 pictures that it decoded last" in caplog.text
    with left_behind(run, catalogue.fingerprint) as left:
        assert left == []
    with left_behind(run, "of other data") as left:
        assert left == [(0, 7)]
    living.close(is_idle=True)
    assert not list(run.glob(".decoding-*"))


def test_a_thread_that_never_ends_leaves_its_rows_to_the_next_start(tmp_path: Path) -> None:
    notes = DecodeNotes(tmp_path, "a", 2)
    with notes.of_thread() as note, notes.of_thread() as other:
        for row in range(20):
            note([(0, row)])
        other([(7, row) for row in range(8)])
        notes.close(is_idle=False)
    (path,) = tmp_path.glob(".decoding-*")
    said, _, regions = path.read_bytes().partition(b"\n")
    rows = np.frombuffer(regions, np.int64).reshape(2, 16, 2).tolist()
    assert said == b"a"
    assert rows[0] == [[0, row] for row in range(4, 20)]
    assert rows[1] == [[-1, -1]] * 8 + [[7, row] for row in range(8)]


def test_a_list_that_is_cut_short_is_read_and_continued(tmp_path: Path) -> None:
    catalogue = open_catalogue(str(sets.write(tmp_path / "set", NUM)))
    whole = {"data": catalogue.fingerprint, "group": 1, "row": 2, "name": "a", "how": "SIGSEGV"}
    other = {**whole, "data": "another", "row": 3}
    (tmp_path / CRASHED).write_text("\n".join([json.dumps(whole), "[]", json.dumps(other), json.dumps(whole)[:30]]))
    assert guarded(catalogue, 16, tmp_path).crashes == Crashes(tmp_path, {(1, 2): Crash("a", "SIGSEGV")})


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = open_catalogue(str(sets.write(tmp_path / "set", NUM)))
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "alis"):
        seen = shown(guarded(catalogue, 16, tmp_path / "file" / "run"))
    assert sorted(seen) == list(range(NUM))
    (said,) = caplog.messages
    assert "can't be written (Not a directory): pictures that kill their decoder won't be found" in said


HOST = """
import json, sys
from pathlib import Path
from alis import dist
from alis.data import guarded, open_catalogue
dist.start("cpu")
print(json.dumps(sorted(guarded(open_catalogue(sys.argv[1]), 16, Path(sys.argv[2])).crashes.rows)))
dist.stop()
"""


def test_hosts_with_disks_of_their_own_leave_out_what_any_has_found(tmp_path: Path) -> None:
    data = str(sets.write(tmp_path / "set", NUM))
    line = {"data": open_catalogue(data).fingerprint, "group": 1, "name": "a", "how": "SIGSEGV"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = []
    for rank in range(2):
        folder = tmp_path / f"host{rank}"
        folder.mkdir()
        (folder / CRASHED).write_text(json.dumps({**line, "row": rank}) + "\n")
        env = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        env |= {"MASTER_PORT": str(port), "PYTHONPATH": str(reckless.ROOT), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", HOST, data, str(folder)]
        hosts.append(subprocess.Popen(words, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True))
    for process in hosts:
        assert json.loads(process.communicate(timeout=100)[0]) == [[1, 0], [1, 1]]
    for rank in range(2):
        lines = (tmp_path / f"host{rank}" / CRASHED).read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == [rank, 1 - rank]
