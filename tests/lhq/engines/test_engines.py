"""Engines: exactly one report per key, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lhq.engines import Engine, Job, ShardReport
from lhq.engines.local import Local
from lhq.errors import ConfigError

KEYS = [f"{number:06d}" for number in range(7)]


class Errand(Job):
    """Reports the process that ran it; misbehaves on given keys."""

    def __init__(
        self, crash: str = "", bug: str = "", fail: str = "", full: str = "", folder: Path | None = None
    ) -> None:
        self.crash, self.bug, self.fail, self.full, self.folder = crash, bug, fail, full, folder

    def __call__(self, key: str) -> ShardReport:
        if self.folder:
            with open(self.folder / key, "a", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        if key == self.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if key == self.full:
            raise MemoryError
        if key == self.bug:
            raise ZeroDivisionError("a bug of ours")
        return ShardReport(key, rows=int(key), error="shard is ill" if key == self.fail else "")


@pytest.fixture(params=["local", "ray"], scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "local":
        yield Local(2)
        return
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from lhq.engines.ray import Ray

    yield Ray(2)
    ray.shutdown()


def test_one_report_a_key(engine: Engine) -> None:
    reports = list(engine.map(Errand(fail="000003"), KEYS, "cpu"))
    assert sorted(report.key for report in reports) == KEYS
    assert all(report.rows == int(report.key) for report in reports)
    assert [report.key for report in reports if report.error] == ["000003"]


def test_no_keys(engine: Engine) -> None:
    assert list(engine.map(Errand(), [], "cpu")) == []


@pytest.mark.parametrize(("guilty", "how"), [("000000", "crash"), ("000006", "crash"), ("000002", "full")])
def test_a_worker_that_dies_or_finds_no_memory_costs_only_its_own_shard(
    engine: Engine, tmp_path: Path, guilty: str, how: str
) -> None:
    reports = list(engine.map(Errand(**{how: guilty}, folder=tmp_path), KEYS, "cpu"))
    assert sorted(report.key for report in reports) == KEYS
    failed = [report for report in reports if report.error]
    assert [report.key for report in failed] == [guilty]
    assert "died twice" in failed[0].error
    assert len((tmp_path / guilty).read_text().split()) == 2


def test_a_bug_comes_through(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        list(engine.map(Errand(bug="000002"), KEYS, "cpu"))


def test_work_is_spread_over_processes(engine: Engine, tmp_path: Path) -> None:
    list(engine.map(Errand(folder=tmp_path), KEYS * 2, "cpu"))
    workers = {pid for path in tmp_path.iterdir() for pid in path.read_text().split()}
    assert str(os.getpid()) not in workers


def test_without_a_gpu_the_gpu_lane_runs_here(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() > 1:
        pytest.skip("several GPUs: one worker each")
    list(Local(4).map(Errand(folder=tmp_path), KEYS, "gpu"))
    assert {path.read_text().strip() for path in tmp_path.iterdir()} == {str(os.getpid())}


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="workers = -1"):
        Local(-1)


def test_an_interrupted_map_leaves_no_worker_behind(tmp_path: Path) -> None:
    reports = Local(2).map(Errand(folder=tmp_path), KEYS, "cpu")
    next(reports)
    reports.close()  # type: ignore[attr-defined]
    for path in tmp_path.iterdir():
        for pid in path.read_text().split():
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)


class Stuck(Job):
    """A job that never ends, and tells which process does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, key: str) -> ShardReport:
        (self.folder / f"{key}.part").write_text(f"{os.getpid()}")
        os.rename(self.folder / f"{key}.part", self.folder / key)
        time.sleep(600)
        return ShardReport(key)


_MAPS = """
import pathlib, sys
from lhq.engines.local import Local
from tests.lhq.engines.test_engines import Stuck
list(Local(2).map(Stuck(pathlib.Path(sys.argv[1])), ["000000", "000001"], "cpu"))
"""


@pytest.mark.parametrize("kill", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_worker_outlives_a_script_that_was_stopped_however_it_hangs(tmp_path: Path, kill: str) -> None:
    """The script has no `if __name__ == "__main__":`, so that no worker may import it."""
    (tmp_path / "script.py").write_text(_MAPS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    words = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as program:
        _wait_until(lambda: len(list(tmp_path.glob("*[0-9]"))) == 2)
        program.send_signal(getattr(signal, kill))
        program.wait(timeout=20)
    for path in tmp_path.glob("*[0-9]"):
        pid = int(path.read_text())
        _wait_until(lambda pid=pid: not _is_alive(pid))  # type: ignore[misc]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


_STARTS = """
import pathlib, sys, time
from lhq.engines.local import Local
Local(1, soon="what_it_imports")
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
"""


def test_the_process_that_workers_come_from_is_deaf_to_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    told = tmp_path / "told"
    (tmp_path / "what_it_imports.py").write_text(
        "import os, signal\n"
        "is_deaf = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        f"with open({str(told)!r} + '.part', 'w') as file:\n"
        "    file.write(str(is_deaf))\n"
        f"os.rename({str(told)!r} + '.part', {str(told)!r})\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[3]), str(tmp_path)])
    words = [sys.executable, "-c", _STARTS, str(told)]
    subprocess.run(words, check=True, timeout=240, env={**os.environ, "PYTHONPATH": paths})
    assert told.read_text() == "True", "or Ctrl-C in these moments prints its traceback"
