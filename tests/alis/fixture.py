"""The published networks at toy size: weights, inputs and outputs to compare with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

import alis
from alis.config import ModelConfig

PLACES = {"b4.input.input.input_column": "b4.column", "b4.input.input.affine": "b4.input.affine"}


@dataclass
class Reference:
    """One fixture: our networks with its weights, and its tensors by name."""

    config: ModelConfig
    generator: alis.Generator
    discriminator: alis.Discriminator
    io: dict[str, Tensor]
    shifts: list[int]


def read(folder: Path) -> Reference:
    """Build our networks from the plain tensors of a fixture (not through its checkpoint)."""
    told = json.loads((folder / "reference.json").read_text())
    known = {key: value for key, value in told.items() if key in ModelConfig.model_fields}
    config = ModelConfig(**known, num_half_res=told["num_fp16_res"])
    tensors = load_file(folder / "reference.safetensors")
    generator, discriminator = alis.Generator(config), alis.Discriminator(config)
    for network, letter in ((generator, "G."), (discriminator, "D.")):
        weights = {}
        for name, value in tensors.items():
            if name.startswith(letter) and not name.endswith(("basis", "resample_filter", "max_shift_strength")):
                name = name.removeprefix(letter)
                for theirs, ours in PLACES.items():
                    name = name.replace(theirs, ours)
                weights[name] = value
        network.load_state_dict(weights)
        network.eval()
    io = {name.removeprefix("io."): value for name, value in tensors.items() if name.startswith("io.")}
    return Reference(config, generator, discriminator, io, told["shifts"])
