"""A model on disk: a folder with `config.json`, `model.safetensors`, and files that training needs.

    config.json                 {"format": 1, "model": {…ModelConfig…}, "notes": {…}, "checksums": {…}, "crc32": "…"}
    model.safetensors           the averaged generator, for painting
    generator.safetensors       the generator in training (optional)
    discriminator.safetensors   (optional)

`checksums` are those of the other files, so that a file of another run with the same networks is noticed.
A run's folder contains such folders as `snapshots/<name>`; opening a run opens its newest snapshot. The word `demo`
means the model that comes with the package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from alis import tensor_file
from alis.config import ModelConfig
from alis.errors import InputError, WeightsMissing
from alis.models.discriminator import Discriminator
from alis.models.generator import Generator
from lhq import checked_json, nearest

FORMAT = 1
MAX_CONFIG_BYTES = 2**20
_FLOATS = {"F64", "F32", "F16", "BF16"}
N = TypeVar("N", bound=nn.Module)
G = TypeVar("G", bound=Generator)
CONFIG, MODEL, TRAINED, DISCRIMINATOR = (
    "config.json",
    "model.safetensors",
    "generator.safetensors",
    "discriminator.safetensors",
)
CLUSTERS = "clusters.safetensors"
DEMO_WORD, DEMO = "demo", Path(__file__).parents[1] / "demo"


def find(path: str | Path) -> Path:
    """The model folder at `path`: the folder itself, or a run's newest snapshot (by name, which sorts by progress).

    The word `demo` means the model in the package; a folder of that name is `./demo`.

    Raises:
        InputError: there is no model folder.
    """
    if path == DEMO_WORD:
        if not ((DEMO / CONFIG).is_file() and (DEMO / MODEL).is_file()):
            raise InputError(
                "this installation came without the demo model",
                hint="train one with make demo and open runs/demo, or put one in: "
                f"alis slim RUN {os.path.relpath(DEMO)}",
            )
        return DEMO
    path = Path(path)
    if (path / CONFIG).is_file() and (path / MODEL).is_file():
        return path
    snapshots = sorted(p.parent for p in path.glob(f"snapshots/*/{CONFIG}") if (p.parent / MODEL).is_file())
    if snapshots:
        return snapshots[-1]
    if not path.exists():
        raise InputError(f"{path}: no such folder", hint=nearest.path(path, "give a model folder or a run's folder"))
    hint = f"it needs {CONFIG} and {MODEL}, or snapshots/ with such folders"
    if path.suffix == ".pkl":
        hint = f"to open a published checkpoint, run: alis import-published {path} OUT"
    raise InputError(f"{path}: not a model folder", hint=hint)


def read_config(path: str | Path) -> ModelConfig:
    """The networks' settings in a model folder.

    Raises:
        InputError: no model folder, or its config.json can't be read.
        ConfigError: a wrong setting.
    """
    file = find(path) / CONFIG
    table = _read_table(file)
    if not isinstance(table, dict) or not isinstance(table.get("model"), dict):
        raise InputError(f'{file}: no "model" table', hint="this is not a config.json of alis")
    number = table.get("format", FORMAT)
    if type(number) is not int or number < 1:
        raise InputError(f"{file}: format {str(number)[:40]} is not a format number", hint="copy the folder again")
    if number > FORMAT:
        raise InputError(f"{file}: format {number} is newer than {FORMAT}", hint="update alis")
    return ModelConfig.read(table["model"], str(file))


def read_notes(path: str | Path) -> dict[str, str | int | float | None]:
    """A model's notes: images seen, dataset, and in `trained_with` the extractor that it was trained against, if any.

    Raises:
        InputError: no model folder, or its config.json can't be read.
    """
    table = _read_table(find(path) / CONFIG)
    notes = table.get("notes") if isinstance(table, dict) else None
    return notes if isinstance(notes, dict) else {}


def _read_table(file: Path) -> Any:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(
                f"{file}: is too large ({file.stat().st_size} bytes)", hint="this is not a config.json of alis"
            )
        table = json.loads(file.read_text(encoding="utf-8"))
        return checked_json.opened(table) if isinstance(table, dict) else table
    except RecursionError:
        raise InputError(f"{file}: is nested too deeply", hint="this is not a config.json of alis") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: can't be read ({error})", hint="copy the folder again") from None


def load_as(kind: type[G], path: str | Path, *, device: str | torch.device = "cpu") -> G:
    """Load the generator of a model folder as an instance of `kind`, in eval mode, without gradients.

    Raises: as `alis.models.load`.
    """
    folder = find(path)
    check_file(folder, MODEL)
    return _load(kind, read_config(folder), folder / MODEL, device)


def load_discriminator(path: str | Path, *, device: str | torch.device = "cpu") -> Discriminator:
    """Load the discriminator of a model folder or of a run's newest snapshot, in eval mode, without gradients.

    Raises:
        WeightsMissing: the folder has no discriminator.
        InputError, ConfigError: as `alis.models.load`.
    """
    folder = find(path)
    if not (folder / DISCRIMINATOR).is_file():
        raise WeightsMissing(f"{folder}: no {DISCRIMINATOR}", hint="this model was saved without its discriminator")
    check_file(folder, DISCRIMINATOR)
    return _load(Discriminator, read_config(folder), folder / DISCRIMINATOR, device)


def check_file(folder: Path, name: str) -> None:
    """Check that a file of tensors is the one that config.json was written with, by the checksum that it says it has.

    Raises:
        InputError: it is another, or can't be read. A file without a checksum (of other programs) may be any.
    """
    table = _read_table(folder / CONFIG)
    listed = table.get("checksums") if isinstance(table, dict) else None
    wanted = listed.get(name) if isinstance(listed, dict) else None
    if wanted is None:
        return
    try:
        stored = tensor_file.stored_checksum(folder / name)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder / name}: can't be read ({error})", hint="copy the file again") from None
    if stored and stored != wanted:
        raise InputError(
            f"{folder / name}: is of another model than {CONFIG} beside it, or of another snapshot of this one",
            hint="copy the whole folder again, or use an earlier snapshot",
        )


def load_weights(network: nn.Module, file: Path) -> None:
    """Load a safetensors file into a network; all names and shapes must match, and every number must be finite.

    Raises:
        InputError: the file is damaged, belongs to another model, or has values that are not finite floats.
    """
    _compare_header(file, {name: tuple(value.shape) for name, value in network.state_dict().items()})
    try:
        weights, _ = tensor_file.load(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: can't be read ({error})", hint="copy the file again") from None
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{file}: {name} has NaN or infinity", hint="use an earlier snapshot, or copy it again")
    network.load_state_dict(weights)


def _compare_header(file: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Check names, shapes and types in the file's header, before allocating any memory for the tensors."""
    try:
        with safe_open(file, "pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 — not a dict
            found = {name: (tuple(one.get_shape()), str(one.get_dtype())) for name, one in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: can't be read ({error})", hint="copy the file again") from None
    for name in sorted(wanted.keys() | found.keys()):
        shape, kind = found.get(name, ("nothing", "F32"))
        if shape != wanted.get(name, "nothing"):
            asked = wanted.get(name, "nothing")
            raise InputError(f"{file}: {name} is {shape}, config.json asks for {asked}", hint="files of two models?")
        if kind not in _FLOATS:
            raise InputError(f"{file}: {name} has type {kind}, not a floating-point type", hint="copy it again")


def _load(kind: Callable[[ModelConfig], N], config: ModelConfig, file: Path, device: str | torch.device) -> N:
    """Build a network and load a file into it; a file with other shapes is refused before the network is built."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in kind(config).state_dict().items()}
    _compare_header(file, wanted)
    network = kind(config)
    load_weights(network, file)
    return network.to(device).eval().requires_grad_(False)


def save(
    path: str | Path,
    generator: Generator,
    discriminator: Discriminator | None = None,
    *,
    trained: Generator | None = None,
    notes: dict[str, str | int | float | None] | None = None,
) -> None:
    """Write a model folder; each file gets its name only when it is complete, config.json last.

    Args:
        generator: the averaged generator, for painting.
        trained: the generator in training, if training is to continue from here.
        notes: images seen, dataset, and so on; saved in config.json under "notes".

    Raises:
        InputError: the folder can't be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checksums = {}
        for name, network in ((MODEL, generator), (TRAINED, trained), (DISCRIMINATOR, discriminator)):
            if network is not None:
                tensor_file.save(network.state_dict(), folder / f"{name}.part")
                checksums[name] = tensor_file.stored_checksum(folder / f"{name}.part")
                _finish(folder, name)
        table = {"format": FORMAT, "model": generator.config.model_dump(), "notes": notes or {}, "checksums": checksums}
        text = json.dumps(checked_json.sealed(table), indent=1) + "\n"
        (folder / f"{CONFIG}.part").write_text(text, encoding="utf-8")
        _finish(folder, CONFIG)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{folder}: can't be written ({error})", hint="free some space, or give a folder that can be written"
        ) from None


def _finish(folder: Path, name: str) -> None:
    with open(folder / f"{name}.part", "rb+") as file:
        os.fsync(file.fileno())
    os.replace(folder / f"{name}.part", folder / name)
