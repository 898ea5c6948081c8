"""A recipe that trains in a second, and helpers to read what its runs wrote."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from alis.training import recipe
from alis.training.recipe import TrainConfig

ROOT = Path(__file__).parents[3]
SMALL: dict[str, object] = {
    "model.resolution": 16,
    "model.channel_base": 128,
    "model.channel_max": 8,
    "model.z_dim": 8,
    "model.w_dim": 8,
    "optim.batch": 8,
    "loss.shift_ramp_kimg": 0,
    "run.kimg": 0.048,
    "run.tick_kimg": 0.016,
    "run.snapshot_ticks": 1,
    "run.keep": 99,
    "loss.r1_gamma": 1.0,
    "loss.pl_weight": 2.0,
    "loss.style_mixing": 0.9,
    "optim.lr_g": 0.0025,
    "ema.half_life_kimg": 8.0,
    "data.threads": 1,
}
PUBLISHED: dict[str, object] = {
    "model__padding": "zeros",
    "model__local_latents": 0.0,
    "model__start": "published",
    "loss__frames_at": "patch",
}


def small(**changes: object) -> TrainConfig:
    return recipe.read("tiny", {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}})


def flags(**changes: object) -> list[str]:
    table = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [part for key, value in table.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def tensors(snapshot: Path) -> dict[str, torch.Tensor]:
    return {f"{path.stem}.{k}": v for path in snapshot.glob("*.safetensors") for k, v in load_file(path).items()}


def records(run: Path, having: str = "loss_g") -> list[dict]:
    """The records of metrics.jsonl that have a value: those of ticks, or of snapshots."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if having in line]
