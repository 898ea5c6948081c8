"""Shard keys → shard reports on a Ray cluster: one task per shard on CPUs, one actor per GPU with its network loaded.

Joins the cluster that `address` or RAY_ADDRESS names, or starts one on this machine. Before work starts, every node
is checked: lhq in the same version, the store within reach, weights present. The work grows and shrinks with the
cluster and never exceeds what the nodes have room for. A shard whose worker died is tried once more; one whose node
died is done on another node.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lhq import __version__
from lhq.engines import Engine, Job, ShardReport
from lhq.errors import ConfigError, RunError
from lhq.records import Lane

log = logging.getLogger("lhq")

TASK_MEMORY_BYTES = 800 * 2**20  # a CPU worker with the largest picture that is accepted
_LOOK_AGAIN_S = 5.0  # how often to ask the cluster for its size
_ANSWER_S = 120.0  # for a node to start a worker and import what the job needs
_CONNECT_S = 10.0
_MAX_NODE_DEATHS = 5  # of one shard: after that, blame the shard


class Ray(Engine):
    """The engine of a cluster.

    Args:
        workers: most shards in progress; 0: as many as the cluster has room for.
        address: of the cluster's head, as `ray start --head` prints it; empty: RAY_ADDRESS, or a cluster started here.

    Raises:
        ConfigError: `workers` is negative.
    """

    shares_disk = False

    def __init__(self, workers: int = 0, *, address: str = "") -> None:
        if workers < 0:
            raise ConfigError(f"engine workers = {workers}", hint="give 0 (all there is room for) or a positive number")
        self.workers, self.address = workers, address

    def check(self, job: Job, lane: Lane) -> None:
        """Ask every node that would work; raises as `map`."""
        check_nodes(join(self.address), job, lane)

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one per key.

        Raises:
            ConfigError: Ray is not installed, the cluster can't be joined, or a node can't do the job.
            RunError: the cluster is gone.
            Exception: whatever `job` raises is our bug and is raised with its traceback.
        """
        if not keys:
            return
        ray = join(self.address)
        check_nodes(ray, job, lane)
        wants_gpu = lane == "gpu" and _resource(ray, "GPU") > 0
        if lane == "gpu" and not wants_gpu:
            log.warning("the Ray cluster has no GPU: measures of the GPU lane run on its CPUs")
        pool = _Actors(ray, job, wants_gpu) if lane == "gpu" else _Tasks(ray, job)
        by_row, crashed = job.by_row(), []
        try:
            for report in _distribute(ray, pool, keys, self.workers):
                if report.died and by_row is not None:
                    crashed.append(report.key)
                else:
                    yield report
        finally:
            pool.close()
        if crashed and by_row is not None:
            pool = _Actors(ray, by_row, wants_gpu) if lane == "gpu" else _Tasks(ray, by_row)
            try:
                yield from _distribute(ray, pool, crashed, self.workers)
            finally:
                pool.close()


class _Tasks:
    """The CPU lane: one task per shard, with one core and `TASK_MEMORY_BYTES`; twice as many are queued as can run."""

    def __init__(self, ray: Any, job: Job) -> None:
        self._ray, self._job = ray, ray.put(job)
        self._run = ray.remote(num_cpus=1, memory=TASK_MEMORY_BYTES, max_retries=0)(_run)

    def room(self) -> int:
        return max(1, 2 * int(_resource(self._ray, "CPU")))

    def start(self, key: str) -> Any:
        return self._run.remote(self._job, key)

    def ended(self, task: Any, *, died: bool) -> None:
        """Tasks keep no state."""

    def close(self) -> None:
        """Tasks keep no state."""


class _Actors:
    """The GPU lane: one actor per GPU (or core, without GPUs), each with the job's network loaded once."""

    def __init__(self, ray: Any, job: Job, wants_gpu: bool) -> None:
        self._ray, self._job, self._unit = ray, ray.put(job), "GPU" if wants_gpu else "CPU"
        self._kind = ray.remote(num_cpus=1, num_gpus=1 if wants_gpu else 0, max_restarts=0)(_Worker)
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}

    def room(self) -> int:
        return max(1, int(_resource(self._ray, self._unit)))

    def start(self, key: str) -> Any:
        actor = self._idle.pop() if self._idle else self._kind.remote(self._job)
        task = actor.run.remote(key)
        self._busy[task] = actor
        return task

    def ended(self, task: Any, *, died: bool) -> None:
        actor = self._busy.pop(task)
        if not died:
            self._idle.append(actor)

    def close(self) -> None:
        for actor in [*self._idle, *self._busy.values()]:
            self._ray.kill(actor)


def _distribute(ray: Any, pool: _Tasks | _Actors, keys: Sequence[str], workers: int) -> Iterator[ShardReport]:
    """Hand every key to `pool` as it has room, and those interrupted by a death again, within limits."""
    waiting: list[str] = list(reversed(keys))
    in_progress: dict[Any, tuple[str, set[str]]] = {}  # the key, and the nodes alive when it was handed out
    crashes: Counter[str] = Counter()
    lost_nodes: Counter[str] = Counter()
    room, alive, looked = pool.room(), _alive(ray), time.monotonic()
    while waiting or in_progress:
        if time.monotonic() - looked > _LOOK_AGAIN_S:
            room, alive, looked = pool.room(), _alive(ray), time.monotonic()
        while waiting and len(in_progress) < min(room, workers or room):
            key = waiting.pop()
            in_progress[pool.start(key)] = key, alive
        for task in ray.wait(list(in_progress), num_returns=1, timeout=_LOOK_AGAIN_S)[0]:
            key, alive_then = in_progress.pop(task)
            report = _report(ray, task, key)
            pool.ended(task, died=not isinstance(report, ShardReport))
            if isinstance(report, ShardReport):
                yield report
                continue
            alive = _alive(ray)
            is_of_node = isinstance(report, ray.exceptions.NodeDiedError) or bool(alive_then - alive)
            (lost_nodes if is_of_node else crashes)[key] += 1
            if crashes[key] > 1 or lost_nodes[key] > _MAX_NODE_DEATHS:
                said = str(report).strip().splitlines()[0]
                yield ShardReport(
                    key,
                    error=f"the worker process died twice on this shard ({type(report).__name__}: {said})",
                    died=True,
                )
            else:
                waiting.append(key)


class _Worker:
    """The state of a GPU actor: the job, whose measures keep their networks."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def run(self, key: str) -> ShardReport:
        return self.job(key)


def _run(job: Job, key: str) -> ShardReport:
    return job(key)


def _report(ray: Any, task: Any, key: str) -> ShardReport | Exception:
    """The task's report, or how its worker died.

    Raises:
        Exception: what the job raised.
        RunError: the cluster is gone.
    """
    try:
        report: ShardReport = ray.get(task)
        return report
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except ray.exceptions.RaySystemError as error:
        raise RunError(
            f"shard {key}: the Ray cluster is gone ({error})", hint="start it and run the same command again"
        ) from error
    except ray.exceptions.RayError as error:
        return error  # type: ignore[no-any-return]


def _alive(ray: Any) -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _resource(ray: Any, name: str) -> float:
    return float(ray.cluster_resources().get(name, 0))


def check_nodes(ray: Any, job: Job, lane: Lane) -> None:
    """Check that every node that would work in this lane can do `job`, and name all that can't. A node that leaves
    meanwhile is not an error.

    Raises:
        ConfigError: a node lacks lhq, has another version of it, lacks what the job needs, or counts a GPU that PyTorch
            does not see there.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    shared = ray.put(job)
    asked = {}
    unit = "GPU" if lane == "gpu" and _resource(ray, "GPU") > 0 else "CPU"
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get(unit, 0) > 0:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ask = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_what_is_lacking)
            asked[f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"] = ask.remote(__version__, shared, unit)
    answers = {name: _answer(ray, task) for name, task in asked.items()}
    here = {name: said for name, said in answers.items() if said is not None}
    for name in answers.keys() - here.keys():
        log.warning("%s left the cluster", name)
    lacking = [f"{name}: {said}" for name, said in here.items() if said]
    if not here:
        lacking = ["no node has a CPU to work with"]
    if lacking:
        raise ConfigError(
            f'engine = "ray": {len(lacking)} of {len(here)} nodes can\'t do the work: {"; ".join(lacking)}',
            hint="fix these nodes or remove them from the cluster, then run the same command again",
        )


def _what_is_lacking(version: str, job: Job, unit: str) -> str:
    """Run on the node: "" if it can do the job."""
    if version != __version__:
        return f"lhq {__version__} is installed, the command runs {version}"
    if said := job.lacks():
        return said
    if unit == "GPU" and "torch" in job.modules():
        import torch

        if torch.cuda.is_available():
            return ""
        return f"Ray counts a GPU that PyTorch {torch.__version__} does not see (a build for the CPU, or no driver)"
    return ""


def _answer(ray: Any, task: Any) -> str | None:
    """What a node lacks, "" for nothing; None if the node is gone, which Ray's list may show only seconds later."""
    try:
        said: str = ray.get(task, timeout=_ANSWER_S)
        return said
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return None
    except ray.exceptions.GetTimeoutError:
        return f"no answer in {_ANSWER_S:.0f} s"
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, ModuleNotFoundError) or "ModuleNotFoundError" in str(error):
            missing = str(cause).strip().splitlines()[-1]
            return f"lhq or a package that it needs is not installed there ({missing})"
        return f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1]}"


def join(address: str = "") -> Any:
    """The `ray` module, connected to a cluster.

    Raises:
        ConfigError: Ray is not installed, or the cluster can't be joined.
    """
    # Read when ray is imported: it neither sends statistics nor asks about them.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's future default, which it warns about: a task without a GPU leaves CUDA_VISIBLE_DEVICES as it is.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # What its C++ part warns of while it tries to connect, twenty times, is in the one error at the end.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    try:
        import ray
    except ImportError:
        raise ConfigError('engine = "ray": Ray is not installed', hint="pip install 'lhq[ray]'") from None
    if not ray.is_initialized():
        wanted = address or os.environ.get("RAY_ADDRESS", "")
        refused = _refused(wanted)
        options: dict[str, Any] = {"address": wanted} if wanted else {"include_dashboard": False}
        if not refused:
            try:
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # ray raises what gRPC, the network or its own version check happen to raise
                refused = said_of(error)
        if refused:
            raise ConfigError(
                f'engine = "ray": can\'t join the cluster {wanted} ({refused})',
                hint="give --address or RAY_ADDRESS of a running one with this Ray version, or none to start one here",
            )
    return ray


def said_of(error: BaseException) -> str:
    """Why a cluster can't be joined, on one line: what lies beneath says more than "failed to connect", and ends
    with it where that is a traceback's text."""
    text = str(error)
    if error.__cause__ is not None and (lines := str(error.__cause__).strip().splitlines()):
        text = lines[-1]
    return " ".join(text.split())[:400] or type(error).__name__


def _refused(address: str) -> str:
    """Why nothing answers at `host:port`; "" if something does. Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        return str(error)
    return ""
