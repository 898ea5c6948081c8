"""Resolution, hours, dataset size and device → a training recipe, and what it will cost.

The same arguments give the same recipe, so the same command resumes its run. A GPU's speed is a rough estimate.
Source of the rules: experiments in docs/log.md; R1's weight is proportional to the number of pixels over the batch
(arXiv 1912.04958, as in its authors' recipes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from alis.data import open_catalogue
from alis.errors import ConfigError
from alis.features import efficientnet_lite
from alis.models import cost
from alis.training import recipe
from alis.training.recipe import TrainConfig

Tables = dict[str, dict[str, Any]]
BASES = (1024, 2048, 4096, 8192, 16384, 32768)
MOST_CHANNELS = {1024: 128, 2048: 128, 4096: 256}
LOCAL_LATENTS = 1.0
"""Share of the waves along x that are replaced: if any stay, shapes repeat in every frame (docs/log.md)."""
WANTED_KIMG = 40
"""Thousand images that the narrowest network should see at least; in proportion for wider ones."""
FEW = 10_000
"""With fewer pictures, the residual discriminator's input is augmented."""
LR_END = 0.05
"""Factor of the learning rates at the end, on devices whose speed is known, so that oscillations die out."""
LITE_FLOPS = 66e6
"""FLOPs of the frozen network for one picture of 64 px."""


@dataclass(frozen=True)
class Machine:
    """The training device: its kind, memory, and a model of its speed, fitted to measured steps.

    An image takes `flop_s` seconds per floating-point operation, plus `number_s` per number read or written by a
    layer, plus a constant `image_s`.
    """

    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    flop_s: float
    number_s: float
    image_s: float


def this_machine(device: str) -> Machine:
    """The GPU that torch sees, else one CPU core (fitted to four configurations on an AMD EPYC, float32)."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(torch.device(device)).total_memory
        return Machine("cuda", memory, 1 / 6e13, 1e-11, 1e-4)
    return Machine("cpu", 0, 9.2e-12, 11.5e-9, 0.029)


@dataclass(frozen=True)
class TrainingCost:
    """What a recipe costs on a machine: seconds per thousand images, thousand images in the time, size and memory."""

    s_per_kimg: float
    kimg: float
    num_weights: int
    bytes_per_image: int


def training_cost(config: TrainConfig, hours: float, machine: Machine) -> TrainingCost:
    """Estimate the cost of training with a recipe for some hours on a machine."""
    g, d = cost.generator_cost(config.model), cost.discriminator_cost(config.model)
    # The generator's phase costs 3 times its forward pass plus the discriminator's forward and backward pass; the
    # discriminator's phase paints once more and trains on fakes and reals.
    flops = 4.0 * g.flops + 8.0 * d.flops
    if config.loss.discriminators != "residual":
        side = config.projected.size or config.model.resolution
        flops += 4 * LITE_FLOPS * (side / 64) ** 2
    numbers = sum(layer.num_live for account in (g, d) for layer in account.layers)
    s_per_image = flops * machine.flop_s + numbers * machine.number_s + machine.image_s
    width = 2 if machine.kind == "cuda" else 4
    return TrainingCost(
        s_per_kimg=1000 * s_per_image,
        kimg=hours * 3600 / (1000 * s_per_image),
        num_weights=g.num_parameters + d.num_parameters,
        bytes_per_image=2 * width * numbers,
    )


def choose(size: int, hours: float, num_images: int, machine: Machine) -> Tables:
    """Choose a recipe: TOML tables of the settings that differ from the defaults.

    Raises:
        ConfigError: the size is not a power of two from 32 to 1024, or the time is not positive.
    """
    if size not in {32, 64, 128, 256, 512, 1024}:
        raise ConfigError(f"--size {size} is not possible", hint="use 32, 64, 128, 256, 512 or 1024")
    if not (math.isfinite(hours) and hours > 0):
        raise ConfigError(f"--hours {hours:g} is not possible", hint="give the time to train, e.g. 2 or 0.5")
    fitting = [base for base in BASES if base >= 8 * size] or [BASES[-1]]
    chosen = _tables(size, hours, num_images, machine, fitting[0])
    for base in fitting[1:]:
        wider = _tables(size, hours, num_images, machine, base)
        if training_cost(_config(wider), hours, machine).kimg < WANTED_KIMG * base / BASES[0]:
            break
        chosen = wider
    if machine.kind == "cpu":
        kimg = training_cost(_config(chosen), hours, machine).kimg
        chosen["optim"]["lr_end"] = LR_END
        chosen["run"]["kimg"] = max(round(kimg, 3 if kimg < 10 else 1), 0.001)
    return chosen


def flatten(tables: Tables) -> dict[str, Any]:
    """`{"loss": {"r1_gamma": 5.0}}` → `{"loss.r1_gamma": 5.0}`, the keys of flags."""
    return {f"{section}.{name}": value for section, values in tables.items() for name, value in values.items()}


def _config(tables: Tables) -> TrainConfig:
    return recipe.read(None, flatten(tables))


def _tables(size: int, hours: float, num_images: int, machine: Machine, base: int) -> Tables:
    is_gpu, most = machine.kind == "cuda", MOST_CHANNELS.get(base, 512)
    code = 64 if most == 128 else most
    model: dict[str, Any] = {
        "resolution": size,
        "channel_base": base,
        "channel_max": most,
        "z_dim": code,
        "w_dim": code,
        "num_half_res": 0,
        "padding": "plane",
        "local_latents": LOCAL_LATENTS,
        "start": "unit",
        "wave_limit": 32 if most < 512 else 1024,
    }
    batch = 8
    if is_gpu:
        tables: Tables = {"model": model, "loss": {"discriminators": "residual"}}
        room = 0.6 * machine.memory_bytes / training_cost(_config(tables), hours, machine).bytes_per_image
        batch = max(min(1 << int(math.log2(max(room, 1))), 64), 4)
    tables = {
        "model": model,
        "data": {"threads": 8 if is_gpu else 1, "buffer_mb": 512 if is_gpu else 64},
        "loss": {
            "discriminators": "both" if efficientnet_lite.is_installed() else "residual",
            "r1_gamma": round(size**2 / batch / 1000, 3),
            "pl_weight": 0.0,
            "style_mixing": 0.0,
            "frames_at": "column" if is_gpu else "pixel",
            "shift_ramp_kimg": 0,
        },
        "projected": {"size": min(size, 256 if is_gpu else 64)},
        "optim": {"batch": batch, "lr_g": 0.004 if batch < 32 else 0.0025},
        "ema": {"half_life_kimg": 20.0},
        "run": {"minutes": round(60 * hours, 3), "tick_kimg": 4.0 if is_gpu else 0.5},
    }
    if num_images < FEW:
        # Transforms that make a landscape implausible: upside down, tilted, or in unnatural colours.
        never = ("quarter_turns", "turns", "luma_flip", "hue")
        tables["augment"] = {"kind": "ada", "speed_kimg": 100.0, **dict.fromkeys(never, False)}
    if is_gpu:
        tables["run"] |= {"precision": "bfloat16", "half_from": 8, "channels_last": True}
    return tables


def as_toml(tables: Tables, hours: float, num_images: int, machine: Machine) -> str:
    """The recipe as a TOML file for `--config`, with its cost in a comment at the top."""
    paid = training_cost(_config(tables), hours, machine)
    device = "one CPU core" if machine.kind == "cpu" else "this GPU (an estimate: no GPU has been measured yet)"
    head = [
        f"# {num_images:,} pictures, {hours:g} hours on {device}: about {paid.kimg:,.0f} thousand images,",
        f"# {paid.s_per_kimg:.3g} s a thousand; {paid.num_weights / 1e6:.1f} million weights in training.",
    ]
    lines = [f"\n[{section}]\n" + "\n".join(map(_line, values.items())) for section, values in tables.items()]
    return "\n".join([*head, *lines]) + "\n"


def _line(item: tuple[str, Any]) -> str:
    name, value = item
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{name} = {shown}"


def auto_recipe(
    data: str, size: int | None, hours: float | None, changes: Mapping[str, object], device: str
) -> tuple[TrainConfig, str]:
    """Choose the recipe for a dataset; return it, and the same as TOML with its cost.

    Args:
        size: resolution in pixels; by default 128.
        hours: time to train; by default 2.
        changes: single values to override, e.g. `{"loss.r1_gamma": 5.0}`.

    Raises:
        ConfigError, InputError, DataError
    """
    column = changes.get("data.column")
    num_images = open_catalogue(data, None if column is None else str(column)).num_images
    machine, hours = this_machine(device), 2.0 if hours is None else hours
    tables = choose(128 if size is None else size, hours, num_images, machine)
    for key, value in changes.items():
        section, _, name = key.partition(".")
        tables.setdefault(section, {})[name] = value
    return _config(tables), as_toml(tables, hours, num_images, machine)
