"""Pictures a second of a training step, all regularisers on, beside the floor that its multiplications set.

    python benchmarks/training.py --config tiny
    python benchmarks/training.py --config lhq256 --optim.batch 32 --against eager compile graphs

`floor` is the time that the step's multiply-adds alone would take at the rate this machine reaches on a large square
matrix product, in the precision the networks run in. Each variant is measured in a process of its own; every phase is
weighted by how often the recipe pays it. `eager` turns our kernels off (plain PyTorch on the same device).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from alis.ops import dispatch
from alis.training import recipe
from alis.training.monitor import machine
from alis.training.step import Step, build

ROOT = Path(__file__).parents[1]
VARIANTS = {"ours": "off", "eager": "off", "compile": "default", "graphs": "reduce-overhead"}


class Count(TorchDispatchMode):
    """Floating point operations of the matrix products and convolutions that run inside.

    torch's own FlopCounterMode hooks modules, which gradients inside a forward pass (R1, path length) forbid.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def measure(config: recipe.TrainConfig, variant: str, repeats: int) -> dict[str, float]:
    """Seconds and floating point operations of one average step, and the peak memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = config.model_copy(update={"run": config.run.model_copy(update={"compile": VARIANTS[variant]})}).resolved(1)
    if variant == "eager":
        dispatch.use_triton(False)
    batch, size = config.optim.batch, config.model.resolution
    assert batch is not None
    state = build(config, device)
    step = Step(state, config)
    reals = {j: torch.randn(step.micro, 3, size, size, device=device) for j in step.own}
    phases: dict[str, tuple[Callable[[], object], float]] = {
        "generator": (step.generator, 1.0),
        "path_length": (step.path_length, 1 / config.loss.pl_every),
        "discriminator": (lambda: step.discriminator(reals), 1.0),
        "r1": (lambda: step.r1(reals), 1 / config.loss.r1_every),
    }
    found: dict[str, float] = {}
    seconds = flops = 0.0
    for name, (run, share) in phases.items():
        run()
        if variant in {"ours", "eager"}:
            with Count() as counter:
                run()
            flops += counter.total * share
        times = [_timed(run, device) for _ in range(repeats)]
        found[f"{name}_s"] = statistics.median(times)
        seconds += found[f"{name}_s"] * share
    found |= {
        "images_per_s": batch / seconds,
        "step_s": seconds,
        "flops": flops,
        "matrix_flops_per_s": _rate(config, device),
    }
    if device.type == "cuda":
        found["memory_mb_per_image"] = torch.cuda.max_memory_allocated() / 2**20 / batch
    return found


def _timed(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _rate(config: recipe.TrainConfig, device: torch.device) -> float:
    """Floating point operations a second of a large matrix product in the step's precision."""
    dtype = getattr(torch, config.run.precision) if device.type == "cuda" else torch.float32
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    a @ a
    times = [_timed(lambda: a @ a, device) for _ in range(5)]
    return 2 * size**3 / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--optim.batch", dest="batch", type=int)
    parser.add_argument("--against", nargs="*", default=[], choices=[name for name in VARIANTS if name != "ours"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "training.json")
    asked = parser.parse_args()
    config = recipe.read(asked.config, {"optim.batch": asked.batch} if asked.batch else None)
    if asked.only:
        print(json.dumps(measure(config, asked.only, asked.repeats)))
        return
    found = {}
    for variant in ("ours", *asked.against):
        line = [sys.executable, __file__, "--only", variant, "--config", asked.config, "--repeats", str(asked.repeats)]
        line += ["--optim.batch", str(asked.batch)] if asked.batch else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[variant] = json.loads(done.stdout.splitlines()[-1])
    ours = found["ours"]
    floor_s = ours["flops"] / ours["matrix_flops_per_s"]
    ratios = {f"ours / {name}": one["step_s"] / ours["step_s"] for name, one in found.items() if name != "ours"}
    ratios["floor / ours"] = floor_s / ours["step_s"]
    record = {
        "config": asked.config,
        "batch": config.resolved(1).optim.batch,
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "variants": found,
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n")
    for name, value in ratios.items():
        print(f"{name:<18} {value:>8.3f}")
    for name, one in found.items():
        print(f"{name:<18} {one['images_per_s']:>8.1f} img/s")


if __name__ == "__main__":
    main()
