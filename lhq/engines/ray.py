"""Shard keys → shard reports on a Ray cluster: one task a shard, one GPU a task in the GPU lane.

Joins the cluster that RAY_ADDRESS names, or starts one on this machine. Every node needs lhq installed and must
reach the store by the same address. A task whose worker died is tried once more elsewhere, then reported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from lhq.engines import Job, ShardReport
from lhq.errors import ConfigError
from lhq.records import Lane

log = logging.getLogger("lhq")


class Ray:
    """The engine of a cluster.

    Args:
        workers: shards under way at most; 0: as many as the cluster has room for.

    Raises:
        ConfigError: Ray is not installed, or the cluster can't be reached.
    """

    def __init__(self, workers: int = 0) -> None:
        if workers < 0:
            raise ConfigError(f"engine workers = {workers}", hint="give 0 (all there is room for) or a positive number")
        self.workers = workers

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one a key.

        Raises:
            Exception: whatever `job` raises is a bug of ours and comes through with its traceback.
        """
        if not keys:
            return
        ray = _joined()
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        if lane == "gpu" and not has_gpus:
            log.warning("the Ray cluster has no GPU: measures of the GPU lane run on its CPUs")
        run = ray.remote(num_cpus=1, num_gpus=1 if lane == "gpu" and has_gpus else 0, max_retries=1)(_run)
        shared = ray.put(job)
        waiting = list(reversed(keys))
        under_way: dict[Any, str] = {}
        while waiting or under_way:
            while waiting and (not self.workers or len(under_way) < self.workers):
                key = waiting.pop()
                under_way[run.remote(shared, key)] = key
            for task in ray.wait(list(under_way), num_returns=1)[0]:
                yield _report(ray, task, under_way.pop(task))


def _run(job: Job, key: str) -> ShardReport:
    return job(key)


def _report(ray: Any, task: Any, key: str) -> ShardReport:
    try:
        report: ShardReport = ray.get(task)
        return report
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError) as error:
        first = str(error).strip().splitlines()[0]
        return ShardReport(key, error=f"the worker process died twice on this shard ({type(error).__name__}: {first})")


def _joined() -> Any:
    """The `ray` module, connected."""
    # Read when ray is imported: no statistics are sent, and no question is asked about it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's coming default, announced by a warning: a task without a GPU keeps the devices' variable as it is.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError('engine = "ray": Ray is not installed', hint="pip install 'lhq[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f'engine = "ray": can\'t join the cluster ({error})',
                hint="set RAY_ADDRESS to a running one, or unset it to start one here",
            ) from error
    return ray
