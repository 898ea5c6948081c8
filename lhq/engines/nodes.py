"""Checks of every node of a Ray cluster, in parallel, before any work.

A node must have the same version of lhq and of the packages that determine output bytes, access to the store, weights
and programs, and room for one worker. Each node checks itself, so that messages name the node and the value.
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

TASK_MEMORY_BYTES = 800 * 2**20  # of a CPU worker with the largest image that is accepted
_CHECK_TIMEOUT_S = 120.0  # for all nodes to start a worker and import what the job needs
# Other versions give images and facts that differ in the last bits, and different files.
_VERSIONED_PACKAGES = ("numpy", "pillow", "pyarrow", "simplejpeg")
_INSTALL_HINT = "install lhq there as it is here, with the same packages"


def check_nodes(ray: Any, job: Job, lane: Lane) -> None:
    """Check that every node of this lane can do `job`. A node that leaves the cluster meanwhile is not an error.

    Raises:
        ConfigError: names each node that lacks lhq, has another version of it or of a package that determines output
            bytes, lacks what the job needs, or advertises a GPU that PyTorch can't use; or no node has room.
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
    results = _check_each(ray, working, job, unit)
    present = {name: problem for name, problem in results.items() if problem is not None}
    for name in results.keys() - present.keys():
        log.warning("%s left the cluster", name)
    unfit = [f"{name}: {problem}" for name, problem in present.items() if problem]
    if unfit or not present:
        raise ConfigError(
            f'engine = "ray": {len(unfit)} of {len(present)} nodes can\'t do the work: '
            f"{'; '.join(unfit) or 'all have left'}",
            hint="fix these nodes or remove them from the cluster, then run the same command again",
        )


def resource(ray: Any, name: str) -> float:
    """The cluster's total of a resource."""
    return float(ray.cluster_resources().get(name, 0))


def _has_room(node: Mapping[str, Any], unit: str, lane: Lane) -> bool:
    """Whether one worker of the lane fits on a node; if it fits nowhere, Ray would wait silently."""
    resources: Mapping[str, float] = node["Resources"]
    fits = resources.get("CPU", 0) >= 1 and resources.get(unit, 0) >= 1
    return fits and (lane == "gpu" or resources.get("memory", 0) >= TASK_MEMORY_BYTES)


def _check_each(ray: Any, nodes: Sequence[Mapping[str, Any]], job: Job, unit: str) -> dict[str, str | None]:
    """Node name → what it lacks, "" if nothing; None if it has left, which Ray's list may show seconds later."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    job_ref, required, tasks = ray.put(job), versions([*_VERSIONED_PACKAGES, *job.modules()]), {}
    # Ray before 2.50 hides the GPUs from a task that asks for none.
    runtime_env = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}} if unit == "GPU" else None
    for node in nodes:
        on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_node, runtime_env=runtime_env)
        name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        tasks[name] = task(missing_requirement).remote(__version__, required, job_ref, unit)
    deadline = time.monotonic() + _CHECK_TIMEOUT_S
    return {name: _result(ray, task, deadline) for name, task in tasks.items()}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of packages, without build tags (`+cu126`); packages that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return found


def missing_requirement(version: str, required: Mapping[str, str], job: Job, unit: str) -> str:
    """Runs on a node: what it lacks to do the job, as a sentence; "" if nothing.

    Args:
        version: of lhq, on the driver.
        required: package → version on the driver.
        unit: `CPU` or `GPU`.
    """
    if version != __version__:
        return f"lhq {__version__} is installed, the command runs {version}: {_INSTALL_HINT}"
    installed = versions(list(required))
    differing = [name for name in required if installed.get(name) != required[name]]
    if differing:
        here = ", ".join(f"{name} {installed.get(name, 'not at all')}" for name in differing)
        there = ", ".join(f"{name} {required[name]}" for name in differing)
        return f"{here} is installed, the command runs {there}: {_INSTALL_HINT}"
    try:
        if lack := job.lacks():
            return lack
    except LhqError as error:
        return error.message
    if unit == "GPU" and "torch" in job.modules():
        import torch

        if torch.cuda.is_available():
            return ""
        return f"Ray counts a GPU that PyTorch {torch.__version__} does not see (a build for the CPU, or no driver)"
    return ""


def _result(ray: Any, task: Any, deadline: float) -> str | None:
    """The result of `missing_requirement` on a node, or how it failed; None if the node has left."""
    try:
        lack: str = ray.get(task, timeout=max(deadline - time.monotonic(), 0.1))
        return lack
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return None
    except ray.exceptions.GetTimeoutError:
        return f"no answer in {_CHECK_TIMEOUT_S:.0f} s; `ray status` and the logs of its raylet say more"
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, ModuleNotFoundError) or "ModuleNotFoundError" in str(error):
            missing = str(cause).strip().splitlines()[-1]
            is_other_version = "'lhq." in missing  # installed, but without this module
            what = (
                "lhq is installed in another version"
                if is_other_version
                else "lhq or a package that it needs is missing"
            )
            return f"{what} ({missing}): {_INSTALL_HINT}"
        return f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1]}"
