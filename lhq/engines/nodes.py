"""What every node of a Ray cluster must have: asked of each, before any work, all at once.

A node must run the same version of lhq and of the packages that decide bytes, find its share of the work (store,
weights, programs), and have room for one worker. Each answers for itself, so a message names node and value.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from lhq import __version__
from lhq.engines import Job
from lhq.errors import ConfigError, LhqError
from lhq.records import Lane

log = logging.getLogger("lhq")

TASK_MEMORY_BYTES = 800 * 2**20  # a CPU worker with the largest picture that is accepted
_ANSWER_S = 120.0  # for all nodes to start a worker and import what the job needs
# Of two versions, pictures and facts differ in their last bits, and the files in more.
_DECIDE_BYTES = ("numpy", "pillow", "pyarrow", "simplejpeg")
_MENDING = "install lhq there as it is here, with the same packages"


def check_nodes(ray: Any, job: Job, lane: Lane) -> None:
    """Check that every node that would work in this lane can do `job`, and name all that can't. A node that leaves
    meanwhile is not an error.

    Raises:
        ConfigError: a node lacks lhq, has another version of it or of a package that decides bytes, lacks what the job
            needs, or counts a GPU that PyTorch does not see there; or no node has room.
    """
    unit = "GPU" if lane == "gpu" and resource(ray, "GPU") > 0 else "CPU"
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not any(_has_room(node, unit, lane) for node in nodes):
        wanted = "a GPU and a CPU" if unit == "GPU" else f"a CPU and {TASK_MEMORY_BYTES // 2**20} MB of memory"
        raise ConfigError(
            f'engine = "ray": none of the {len(nodes)} nodes has {wanted} to work with',
            hint="add a node that has, or start one with --num-cpus and --memory; `ray status` lists them",
        )
    working = [node for node in nodes if node["Resources"].get(unit, 0) > 0]
    answers = _asked(ray, working, job, unit)
    here = {name: said for name, said in answers.items() if said is not None}
    for name in answers.keys() - here.keys():
        log.warning("%s left the cluster", name)
    if lacking := [f"{name}: {said}" for name, said in here.items() if said] or (not here and ["all have left"]):
        raise ConfigError(
            f'engine = "ray": {len(lacking)} of {len(here)} nodes can\'t do the work: {"; ".join(lacking)}',
            hint="fix these nodes or remove them from the cluster, then run the same command again",
        )


def resource(ray: Any, name: str) -> float:
    """How much of a resource the cluster has in all."""
    return float(ray.cluster_resources().get(name, 0))


def _has_room(node: Mapping[str, Any], unit: str, lane: Lane) -> bool:
    """Whether one worker of the lane fits on a node: Ray would let it wait for such a node without a word."""
    has: Mapping[str, float] = node["Resources"]
    fits = has.get("CPU", 0) >= 1 and has.get(unit, 0) >= 1
    return fits and (lane == "gpu" or has.get("memory", 0) >= TASK_MEMORY_BYTES)


def _asked(ray: Any, nodes: Sequence[Mapping[str, Any]], job: Job, unit: str) -> dict[str, str | None]:
    """By node: what it lacks, "" for nothing; None if it is gone, which Ray's list may show only seconds later."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    job_ref, mine, tasks = ray.put(job), versions([*_DECIDE_BYTES, *job.modules()]), {}
    # Ray before 2.50 hides the GPUs from a task that asks for none.
    sees = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}} if unit == "GPU" else None
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ask = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there, runtime_env=sees)(what_is_lacking)
        name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        tasks[name] = ask.remote(__version__, mine, job_ref, unit)
    ends = time.monotonic() + _ANSWER_S
    return {name: _answer(ray, task, ends) for name, task in tasks.items()}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of these packages, without builds (`+cu126`); those that are not here are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return found


def what_is_lacking(version: str, wanted: Mapping[str, str], job: Job, unit: str) -> str:
    """Run on the node: "" if it can do the job.

    Args:
        version: of lhq, at the driver.
        wanted: package → its version there.
    """
    if version != __version__:
        return f"lhq {__version__} is installed, the command runs {version}: {_MENDING}"
    mine = versions(list(wanted))
    if other := [f"{name} {mine.get(name, 'not at all')}" for name in wanted if mine.get(name) != wanted[name]]:
        theirs = ", ".join(f"{name} {wanted[name]}" for name in wanted if mine.get(name) != wanted[name])
        return f"{', '.join(other)} is installed, the command runs {theirs}: {_MENDING}"
    try:
        if said := job.lacks():
            return said
    except LhqError as error:
        return error.message
    if unit == "GPU" and "torch" in job.modules():
        import torch

        if torch.cuda.is_available():
            return ""
        return f"Ray counts a GPU that PyTorch {torch.__version__} does not see (a build for the CPU, or no driver)"
    return ""


def _answer(ray: Any, task: Any, ends: float) -> str | None:
    try:
        said: str = ray.get(task, timeout=max(ends - time.monotonic(), 0.1))
        return said
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return None
    except ray.exceptions.GetTimeoutError:
        return f"no answer in {_ANSWER_S:.0f} s; `ray status` and the logs of its raylet say more"
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, ModuleNotFoundError) or "ModuleNotFoundError" in str(error):
            missing = str(cause).strip().splitlines()[-1]
            is_other = "'lhq." in missing  # there, but not as it is here
            what = "lhq is installed in another version" if is_other else "lhq or a package that it needs is missing"
            return f"{what} ({missing}): {_MENDING}"
        return f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1]}"
