"""Shard keys → shard reports on a Ray cluster: one task per shard on CPUs, one actor per GPU with its network loaded.

Joins the cluster that `address` or RAY_ADDRESS names, or starts one on this machine. Before work starts, every node
is checked (`lhq.engines.nodes`). The work grows and shrinks with the
cluster and never exceeds what the nodes have room for. A shard whose worker died is tried once more; one whose node
died is done on another node.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lhq.engines import Engine, Job, ShardReport
from lhq.engines.cluster import join
from lhq.engines.nodes import TASK_MEMORY_BYTES, check_nodes, resource
from lhq.errors import ConfigError, RunError
from lhq.records import Lane

log = logging.getLogger("lhq")

_LOOK_AGAIN_S = 5.0  # how often to ask the cluster for its size
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
        self.workers, self.address, self._has_said = workers, address, False

    def check(self, job: Job, lane: Lane) -> None:
        """Ask every node that would work; raises as `map`."""
        self._checked(job, lane)

    def _checked(self, job: Job, lane: Lane) -> Any:
        ray = join(self.address)
        check_nodes(ray, job, lane)
        if lane == "gpu" and not resource(ray, "GPU") and not self._has_said:
            log.warning("the Ray cluster has no GPU: measures of the GPU lane run on its CPUs")
            self._has_said = True
        return ray

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one per key.

        Raises:
            ConfigError: Ray is not installed, the cluster can't be joined, or a node can't do the job.
            RunError: the cluster is gone.
            Exception: whatever `job` raises is our bug and is raised with its traceback.
        """
        if not keys:
            return
        ray = self._checked(job, lane)
        wants_gpu = lane == "gpu" and resource(ray, "GPU") > 0
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
        return max(1, 2 * int(resource(self._ray, "CPU")))

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
        return max(1, int(resource(self._ray, self._unit)))

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
                said = (str(report).strip() or "no memory").splitlines()[0]
                yield ShardReport(
                    key,
                    error=f"the worker process died twice on this shard ({type(report).__name__}: {said})",
                    died=True,
                )
            else:
                what = "a node left the cluster" if is_of_node else f"its worker died ({type(report).__name__})"
                log.warning("shard %s: %s, it is tried again", key, what)
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
        if isinstance(error.cause, MemoryError):
            return error.cause
        raise error.as_instanceof_cause() from None
    except ray.exceptions.RaySystemError as error:
        raise RunError(
            f"shard {key}: the Ray cluster is gone ({error})", hint="start it and run the same command again"
        ) from error
    except ray.exceptions.RayError as error:
        return error  # type: ignore[no-any-return]


def _alive(ray: Any) -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
