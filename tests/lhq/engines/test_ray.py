"""A Ray cluster of two nodes: what every node must have, workers and nodes that die, drivers that come and go."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lhq.engines import Job, ShardReport, nodes
from lhq.engines.cluster import join, one_line
from lhq.engines.ray import Ray
from lhq.errors import ConfigError

pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
ROOT = Path(__file__).parents[3]
KEYS = [f"{number:06d}" for number in range(8)]


@pytest.fixture
def engine(cluster: Any) -> Ray:
    return Ray(address=cluster.address)


@dataclass
class Logged(Job):
    """Records which node ran which key and whether it kept state; dies or waits on given keys."""

    folder: Path
    dies_on: str = ""
    needs: str = ""
    waits_on: str = ""
    uses: tuple[str, ...] = ()
    num_done: int = 0

    def __call__(self, key: str) -> ShardReport:
        import ray

        node = ray.get_runtime_context().get_node_id()
        self.num_done += 1
        with open(self.folder / f"log-{key}", "a", encoding="ascii") as file:
            file.write(f"{node} {os.getpid()} {self.num_done}\n")
        if key == self.dies_on:
            os.kill(os.getpid(), signal.SIGKILL)
        while key == self.waits_on and not (self.folder / "go-on").exists():
            threading.Event().wait(0.02)
        return ShardReport(key, rows=1)

    def lacks(self) -> str:
        return f"{self.needs} is not there" if self.needs and not Path(self.needs).exists() else ""

    def modules(self) -> tuple[str, ...]:
        return self.uses

    def logged(self, key: str) -> list[list[str]]:
        path = self.folder / f"log-{key}"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_both_nodes_work_and_every_key_is_done_once(engine: Ray, tmp_path: Path) -> None:
    job = Logged(tmp_path)
    reports = list(engine.map(job, KEYS * 2, "cpu"))
    assert sorted(report.key for report in reports) == sorted(KEYS * 2)
    assert len({node for key in KEYS for node, *_ in job.logged(key)}) == 2


def test_a_network_is_loaded_once_an_actor(engine: Ray, tmp_path: Path) -> None:
    job = Logged(tmp_path)
    list(engine.map(job, KEYS, "gpu"))
    lines = [line for key in KEYS for line in job.logged(key)]
    done_by = {pid: max(int(n) for _, who, n in lines if who == pid) for _, pid, _ in lines}
    assert len(done_by) <= 2, "one actor a core, kept until the end"
    assert sum(done_by.values()) == len(KEYS), "each keeps the job it was given"


@pytest.mark.parametrize("lane", ["cpu", "gpu"])
def test_a_worker_that_dies_costs_its_own_shard(engine: Ray, tmp_path: Path, lane: Any) -> None:
    job = Logged(tmp_path, dies_on=KEYS[3])
    reports = {report.key: report for report in engine.map(job, KEYS, lane)}
    assert sorted(reports) == KEYS
    assert [key for key, report in reports.items() if report.error] == [KEYS[3]]
    assert "died twice" in reports[KEYS[3]].error
    assert len(job.logged(KEYS[3])) == 2


def test_a_node_that_dies_costs_nothing(cluster: Any, engine: Ray, tmp_path: Path) -> None:
    ray = join(cluster.address)
    node = cluster.add_node(num_cpus=1)
    job = Logged(tmp_path, waits_on=KEYS[0])
    found: list[ShardReport] = []
    mapped = engine.map(job, KEYS, "cpu")
    head = ray.get_runtime_context().get_node_id()
    found.append(next(mapped))  # under way; one key waits somewhere
    where = job.logged(KEYS[0])[0][0] if job.logged(KEYS[0]) else head
    cluster.remove_node(node, allow_graceful=False)
    (tmp_path / "go-on").touch()
    found += mapped
    assert sorted(report.key for report in found) == KEYS
    assert not [report.error for report in found if report.error], f"the waiting key was on {where}"


def test_a_node_that_lacks_something_is_named_before_work_starts(engine: Ray, tmp_path: Path) -> None:
    job = Logged(tmp_path, needs=str(tmp_path / "weights.pt"))
    with pytest.raises(ConfigError, match=r"2 of 2 nodes can't do the work.*weights\.pt is not there"):
        list(engine.map(job, KEYS, "cpu"))
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_another_version_on_the_cluster_is_named(engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lhq.engines.nodes.__version__", "9.9.9")
    with pytest.raises(ConfigError, match=r"is installed, the command runs 9\.9\.9"):
        list(engine.map(Logged(tmp_path), KEYS, "cpu"))


def test_other_packages_on_a_node_are_named(engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two versions of a decoder, a dataset's bytes would depend on which node rendered a photo."""
    monkeypatch.setattr(nodes, "versions", lambda packages: {"pillow": "1.0"})
    with pytest.raises(ConfigError, match=r"pillow [\d.]+ is installed, the command runs pillow 1\.0: install lhq"):
        list(engine.map(Logged(tmp_path), KEYS, "cpu"))


def test_a_cluster_without_room_for_a_task_is_named(
    engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "TASK_MEMORY_BYTES", 2**50)
    with pytest.raises(ConfigError, match=r"none of the 2 nodes has a CPU and 1073741824 MB of memory"):
        list(engine.map(Logged(tmp_path), KEYS, "cpu"))


_PRINTS = """
import sys
from pathlib import Path
from lhq.engines.ray import Ray
from tests.lhq.engines.test_ray import KEYS, Logged
job = Logged(Path(sys.argv[2]), dies_on=KEYS[1])
print(sum(not report.error for report in Ray(address=sys.argv[1]).map(job, KEYS, "cpu")))
"""


def test_what_ray_says_of_a_death_is_not_in_our_output(cluster: Any, tmp_path: Path) -> None:
    """Standard output is data, and one line a death is all that standard error needs."""
    words = [sys.executable, "-c", _PRINTS, cluster.address, str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == f"{len(KEYS) - 1}\n"
    assert done.stderr == f"shard {KEYS[1]}: its worker died (WorkerCrashedError), it is tried again\n"


def test_a_gpu_that_is_counted_and_not_seen_is_named(cluster: Any, engine: Ray, tmp_path: Path) -> None:
    """A node started with `--num-gpus` where PyTorch finds none: its measures would run on the CPU without a word."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch sees a GPU here")
    node = cluster.add_node(num_cpus=1, num_gpus=1)
    try:
        with pytest.raises(ConfigError, match=r"1 of 1 nodes can't do the work: .*Ray counts a GPU that PyTorch"):
            list(engine.map(Logged(tmp_path, uses=("torch",)), KEYS, "gpu"))
        assert len(list(engine.map(Logged(tmp_path), KEYS, "gpu"))) == len(KEYS), "a program of its own may see it"
    finally:
        cluster.remove_node(node)


@pytest.mark.parametrize(
    ("beneath", "said"),
    [
        (None, "Version mismatch: The cluster was started with: Ray: 2.9.0 This process was started with: Ray: 2.60.0"),
        ("Traceback:\n  File x\nAuthenticationError: token is missing\n", "AuthenticationError: token is missing"),
    ],
)
def test_why_a_cluster_cannot_be_joined_is_one_line(beneath: str | None, said: str) -> None:
    error = ConnectionError(
        "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n"
        "This process was started with:\n    Ray: 2.60.0\n"
    )
    error.__cause__ = RuntimeError(beneath) if beneath else None
    assert one_line(error) == said


def test_a_token_that_is_not_there_is_named_with_how_to_give_it(cluster: Any) -> None:
    """`ray start` asks for one as soon as its machine has one, and a driver brings none unless it is told to."""
    code = f"from lhq.engines.cluster import join\njoin({cluster.address!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    hint = "set RAY_AUTH_MODE=token, and give the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token\n"
    assert done.stderr.endswith(hint)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"", "no answer in"), (b"HTTP/1.1 404 Not Found\r\n\r\n", 'no head of a cluster .it says "HTTP/1.1 404')],
)
def test_what_answers_there_is_no_cluster(answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would wait for ever for the first, and minutes for the second: the dashboard's port is a common slip."""
    monkeypatch.setattr("lhq.engines.cluster._CONNECT_S", 0.5)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(256)
                if answer:
                    client.sendall(answer)
                else:
                    client.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConfigError, match=said):
            join(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    code = (
        "from lhq.engines.ray import Ray\nfrom lhq.errors import ConfigError\n"
        "try:\n    list(Ray(address='127.0.0.1:9').map(print, ['0'], 'cpu'))\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "can't join the cluster 127.0.0.1:9" in done.stdout
