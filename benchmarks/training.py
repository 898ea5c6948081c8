"""Pictures a second of whole training steps, beside the floor that their multiplications set.

    python benchmarks/training.py --config tiny
    python benchmarks/training.py --config lhq256 --optim.batch 32 --against eager compile graphs

`floor` is the time that the step's multiply-adds alone would take at the rate this machine reaches on a large square
matrix product, in the precision the networks run in. A step is what training takes: loading and decoding, upload,
mirroring, every phase that is due, the running average; as many steps in a row as pay each regulariser equally. The
parts are also timed by themselves. Each variant is measured in a process of its own and written when it is done.
`eager` turns our kernels off (plain PyTorch on the same device). `patches` is the step of a network of independent
patches that is otherwise alike, what a recipe of the plane would be without its halo and latents; the ratio of what
both multiply is told, and may be 1.6. On the CPU the floor is to be at least 0.32 of a step of `tiny`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import small
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from alis.data import Loader, RankSlice, ReadOptions, open_catalogue
from alis.ops import dispatch
from alis.training import losses, recipe
from alis.training.loop import train_step
from alis.training.monitor import machine
from alis.training.step import Step, build

ROOT = Path(__file__).parents[1]
VARIANTS = {
    "ours": "off",
    "eager": "off",
    "patches": "off",
    "compile": "default",
    "graphs": "reduce-overhead",
}
COUNTED = {"ours", "eager", "patches"}
PATCHES = {
    "model.padding": "replicate",
    "model.local_latents": 0.0,
    "model.start": "published",
    "loss.frames_at": "patch",
}


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


def measure(config: recipe.TrainConfig, variant: str, repeats: int, rounds: int) -> dict[str, float]:
    """Seconds and floating point operations of one average step, those of its parts, and the peak memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = config.model_copy(update={"run": config.run.model_copy(update={"compile": VARIANTS[variant]})}).resolved(1)
    if variant == "eager":
        dispatch.use_triton(False)
    batch, data = config.optim.batch, config.data
    assert batch is not None
    state = build(config, device)
    step = Step(state, config)
    reading = ReadOptions(threads=data.threads, ahead=data.ahead, buffer_mb=data.buffer_mb, pin=device.type == "cuda")
    with tempfile.TemporaryDirectory() as folder:
        catalogue = open_catalogue(str(pictures(Path(folder), config.model.resolution, max(batch, 64))))
        with Loader(catalogue, config.model.resolution, RankSlice(batch, step.micro), reading) as loader:
            found = parts(config, step, loader, variant, repeats, device)
            every = math.lcm(config.loss.pl_every, config.loss.r1_every)
            state.step = 0
            times = [_timed(lambda: whole_steps(config, step, loader, every), device) / every for _ in range(rounds)]
    found |= {
        "step_s": statistics.median(times),
        "images_per_s": batch / statistics.median(times),
        "matrix_flops_per_s": _rate(config, device),
    }
    if device.type == "cuda":
        found["memory_mb_per_image"] = torch.cuda.max_memory_allocated() / 2**20 / batch
    return found


def whole_steps(config: recipe.TrainConfig, step: Step, loader: Loader, num: int) -> None:
    """`num` steps as training takes them: loading, upload, mirroring, every phase that is due, the average."""
    for _ in range(num):
        train_step(step.state, config, step, loader)


def parts(
    config: recipe.TrainConfig, step: Step, loader: Loader, variant: str, repeats: int, device: torch.device
) -> dict[str, float]:
    """Seconds of each part of a step, and operations of all, weighted by how often the recipe pays them."""
    state, loss = step.state, config.loss
    reals: dict[int, torch.Tensor] = {}

    def read() -> None:
        reals.update({j: step.reals(next(loader), j, mirror=config.data.mirror) for j in step.own})

    phases: dict[str, tuple[Callable[[], object], float]] = {
        "reals": (read, 1.0),
        "generator": (step.generator, 1.0),
        "path_length": (step.path_length, 1 / loss.pl_every if loss.pl_weight else 0.0),
        "discriminator": (lambda: step.discriminator(reals), 1.0),
        "r1": (lambda: step.r1(reals), 1 / loss.r1_every if step.has_r1 else 0.0),
        "average": (lambda: losses.update_ema(state.ema, state.generator, 0.999), 1.0),
    }
    found: dict[str, float] = {"flops": 0.0}
    for name, (run, share) in phases.items():
        if not share:
            continue
        run()
        if variant in COUNTED:
            with Count() as counter:
                run()
            found["flops"] += counter.total * share
        found[f"{name}_s"] = statistics.median(_timed(run, device) for _ in range(repeats))
    return found


def pictures(folder: Path, size: int, num: int) -> Path:
    """A dataset of `num` smooth JPEG pictures, of the weight of photographs."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num):
        coarse = Image.fromarray(rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
        rows.append({"bytes": buffer.getvalue(), "path": f"{number}.jpg"})
    (folder / "data").mkdir()
    pq.write_table(pa.table({"image": rows}), folder / "data" / "train-00000-of-00001.parquet", row_group_size=32)
    return folder


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
    parser.add_argument("--rounds", type=int, default=3, help="rounds of whole steps; their median is kept")
    parser.add_argument("--only", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="by default benchmarks/results/training.json")
    asked = small.parse(parser, repeats=1, rounds=1)
    changes: dict[str, object] = {"optim.batch": asked.batch} if asked.batch else {}
    config = recipe.read(asked.config, changes | (PATCHES if asked.only == "patches" else {}))
    if asked.only:
        print(json.dumps(measure(config, asked.only, asked.repeats, asked.rounds)))
        return
    found: dict[str, dict[str, float]] = {}
    for variant in ("ours", *asked.against):
        line = [sys.executable, __file__, "--only", variant, "--config", asked.config]
        line += ["--repeats", str(asked.repeats), "--rounds", str(asked.rounds)]
        line += ["--optim.batch", str(asked.batch)] if asked.batch else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[variant] = json.loads(done.stdout.splitlines()[-1])
        record = {
            "config": asked.config,
            "batch": config.resolved(1).optim.batch,
            "ratios": ratios(found),
            "variants": found,
            "machine": machine(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (asked.out or asked.results / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"{variant:<18} {found[variant]['images_per_s']:>8.1f} img/s", flush=True)
    for name, value in ratios(found).items():
        print(f"{name:<18} {value:>8.3f}")


def ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """How much quicker ours is than each other variant, and how near to the floor."""
    ours = found["ours"]
    told = {f"ours / {name}": one["step_s"] / ours["step_s"] for name, one in found.items() if name != "ours"}
    if "patches" in found:
        told["multiplied: ours / patches"] = ours["flops"] / found["patches"]["flops"]
    told["floor / ours"] = ours["flops"] / ours["matrix_flops_per_s"] / ours["step_s"]
    return {name: round(value, 3) for name, value in told.items()}


if __name__ == "__main__":
    main()
