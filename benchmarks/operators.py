"""Where the processor time of a training step and of a panorama goes, by PyTorch operator.

    python benchmarks/operators.py [--config tiny] [--steps 16] [--frames 16]

One thread, after a warm-up; an operator's own time, without those it calls. What a crawl, a filter and an export cost
is found by benchmarks/crawl_profile.py, size_rate.py and export.py. Writes benchmarks/results/operators.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import small
import torch
from training import pictures, whole_steps

import alis
from alis.data import Loader, RankSlice, ReadOptions, open_catalogue
from alis.training import recipe
from alis.training.monitor import machine
from alis.training.step import Step, build

CPU = torch.device("cpu")


def own_times(run: Callable[[], object]) -> dict[str, Any]:
    """Milliseconds of all operators, and the largest's shares."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    found = {one.key: one.self_cpu_time_total / 1000 for one in profile.key_averages()}
    total = sum(found.values())
    largest = sorted(found.items(), key=lambda pair: -pair[1])[:8]
    return {"total_ms": round(total), "shares": {name: round(ms / total, 3) for name, ms in largest}}


def training(name: str, steps: int) -> dict[str, Any]:
    """Whole steps of a shipped config: reading, both networks, what regularisers are due, the average."""
    config = recipe.read(name).resolved(1)
    step = Step(build(config, CPU), config)
    assert config.optim.batch is not None
    with tempfile.TemporaryDirectory() as folder:
        catalogue = open_catalogue(str(pictures(Path(folder), config.model.resolution, max(config.optim.batch, 64))))
        share, reading = RankSlice(config.optim.batch, step.micro), ReadOptions(threads=1, buffer_mb=64)
        with Loader(catalogue, config.model.resolution, share, reading) as loader:
            return own_times(lambda: whole_steps(config, step, loader, steps))


def painting(model: str, frames: int) -> dict[str, Any]:
    """A strip, as `alis panorama` paints it."""
    plane = alis.Panorama(alis.load(model), 7)
    return own_times(lambda: plane[0 : frames * plane.height])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--frames", type=int, default=16)
    asked = small.parse(parser, steps=2, frames=4)
    torch.set_num_threads(1)
    found = {
        f"train {asked.config}": training(asked.config, asked.steps),
        f"paint {asked.model}": painting(asked.model, asked.frames),
    }
    for what, one in found.items():
        print(f"{what}: {one['total_ms']} ms")
        for name, share in one["shares"].items():
            print(f"  {share:6.1%}  {name}")
    record = {"what": found, "machine": machine(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    (asked.results / "operators.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
