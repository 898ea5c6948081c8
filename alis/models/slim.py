"""A run or model folder → a small one for painting only: the averaged generator, with weights of two bytes each.

float16 weights are converted to float32 when loaded: they lose precision once and cost no speed. The demo model was
made this way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from alis import tensor_file
from alis.errors import InputError
from alis.models import hub, model_folder

Notes = dict[str, str | int | float | None]
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Slim:
    """The new folder, its size, and the largest rounding error, relative to the largest weight of the same tensor."""

    folder: Path
    size_bytes: int
    rounding: float


def slim(
    model: str | Path,
    out: str | Path,
    *,
    weights: str = "float16",
    overwrite: bool = False,
    change: Callable[[hub.Generator], Notes] | None = None,
) -> Slim:
    """Write only the averaged generator, and the clusters if the model has any.

    Args:
        change: called with the generator in float32 before it is written; what it returns is added to the notes.

    Raises:
        InputError: no model, an unknown weight type, or the folder is not empty.
    """
    if weights not in DTYPES:
        raise InputError(f"weights in {weights!r} are not supported", hint=f"use {' or '.join(DTYPES)}")
    source, folder = model_folder.find(model), Path(out)
    if folder.resolve() == source.resolve():
        raise InputError(f"{folder}: is the model itself", hint="give another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file", hint="give a folder's name")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder}: is not empty", hint="give a new folder, or overwrite it with --force")
    g = hub.load(source)
    notes = _notes(source) | (change(g) if change else {})
    rounding = 0.0
    for tensor in g.state_dict().values():
        rounded = tensor.to(DTYPES[weights]).to(tensor.dtype)
        if not bool(torch.isfinite(rounded).all()):
            raise InputError(f"{source}: has weights out of the range of {weights}", hint="use --weights float32")
        rounding = max(rounding, float((rounded - tensor).abs().max() / tensor.abs().max().clamp(min=1e-12)))
    model_folder.save(folder, g.to(DTYPES[weights]), notes=notes | {"weights": weights})
    _copy_clusters(source, folder)
    return Slim(folder, sum(path.stat().st_size for path in folder.iterdir()), rounding)


def _copy_clusters(source: Path, folder: Path) -> None:
    """Copy a model's clusters, if it has any, as those of its slim copy: rounding weights hardly moves centres.

    Raises:
        InputError: the clusters are damaged.
    """
    path = source / model_folder.CLUSTERS
    if not path.is_file():
        return
    try:
        tensors, about = tensor_file.load(path)
        if about.get("model") == tensor_file.stored_checksum(source / model_folder.MODEL):
            about["model"] = tensor_file.stored_checksum(folder / model_folder.MODEL)
        tensor_file.save(tensors, folder / model_folder.CLUSTERS, about)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: can't be copied ({error})", hint="run alis clusters again, or remove it") from None


def _notes(source: Path) -> Notes:
    """The model's notes without local paths, since the folder will be shared."""
    notes = model_folder.read_notes(source)
    return {
        key: Path(value).name if key == "data" and isinstance(value, str) else value for key, value in notes.items()
    }
