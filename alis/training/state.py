"""The state of a training run: in memory, on disk as a snapshot, and broadcast to every process.

    runs/first/
      run.json               settings, data, versions, every start
      metrics.jsonl          one line a tick
      snapshots/000200000/   a model folder (`alis.load` opens it) of the state after 200,000 images
        config.json model.safetensors generator.safetensors discriminator.safetensors
        projected.safetensors                   heads and mixing of the projected discriminator, if there is one
        training.safetensors progress.json      optimisers, path-length mean, p of augmentation; images, step
        frames.png strip.png
      best.json              the snapshot with the best metric, kept beside the newest ones

A folder in snapshots/ is always complete: it is written under another name and then renamed. There is no random state
to save: random numbers depend only on the seed and the images seen.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from alis import dist, models, tensor_file
from alis.config import ModelConfig
from alis.errors import AlisError, ConfigError, InputError
from alis.models import Discriminator, Generator
from alis.models.model_folder import DISCRIMINATOR, MODEL, TRAINED, check_file, load_weights, read_config
from alis.models.projected import Projected
from lhq import checked_json, system

TRAINING, PROGRESS, PROJECTED = "training.safetensors", "progress.json", "projected.safetensors"
log = logging.getLogger("alis")


_ADAM = ("step", "exp_avg", "exp_avg_sq")  # Adam's state of a parameter


@dataclass
class State:
    """Everything that changes during training."""

    generator: Generator
    discriminator: Discriminator
    ema: Generator
    optim_g: torch.optim.Adam
    optim_d: torch.optim.Adam
    mean_length: Tensor
    """Running mean of path lengths, float32 scalar."""
    augment_p: Tensor
    """Probability of augmentations, float32 scalar."""
    real_signs: Tensor
    """Sum of the signs of real logits, and their number, since p was last updated, float32 [2]."""
    projected: Projected | None = None
    optim_p: torch.optim.Adam | None = None
    images: int = 0
    step: int = 0

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The networks in training, by name."""
        found: dict[str, torch.nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        return found if self.projected is None else {**found, "projected": self.projected}


@dataclass(frozen=True)
class Progress:
    """The contents of progress.json: images and steps so far, and whether only the clock asked for the snapshot.

    `num_tensors` is the number of tensors in training.safetensors; None in snapshots of older versions. `checksums` are
    those of the snapshot's files of tensors by name; {} in older ones.
    """

    images: int
    step: int
    is_timed: bool = False
    num_tensors: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)


def read_progress(snapshot: Path) -> Progress:
    """Read the progress of a snapshot.

    Raises:
        InputError: it can't be read, or its counts are not whole numbers.
    """
    file = snapshot / PROGRESS
    try:
        table = checked_json.opened(json.loads(file.read_text(encoding="utf-8")))
        images, step = table["images"], table["step"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: can't be read ({type(error).__name__}: {error})", hint="copy it again") from None
    for name, value in (("images", images), ("step", step)):
        if type(value) is not int or not 0 <= value < 2**53:
            raise InputError(f"{file}: {name} = {str(value)[:40]} is not a count", hint="copy it again")
    num_tensors, checksums = table.get("num_tensors"), table.get("checksums")
    return Progress(
        images,
        step,
        table.get("is_timed") is True,
        num_tensors if type(num_tensors) is int else None,
        checksums if isinstance(checksums, dict) else {},
    )


def restore(state: State, snapshot: Path) -> None:
    """Load a snapshot into `state`; from a model without optimisers, load only its networks, at 0 images; from one
    without a discriminator, the generator alone.

    Raises:
        ConfigError: the snapshot has other networks; the message shows the differences.
        InputError: a file is missing or damaged, or a named tensor is missing, of another shape or not finite.
    """
    _same_model(read_config(snapshot), state.generator.config, snapshot)
    try:
        is_model = not (snapshot / PROGRESS).is_file()
        progress = Progress(0, 0) if is_model else read_progress(snapshot)
        _check_files(snapshot, progress)
        for name in (MODEL, TRAINED, DISCRIMINATOR):
            if (snapshot / name).is_file():
                check_file(snapshot, name)
        load_weights(state.ema, snapshot / MODEL)
        has_trained = (snapshot / TRAINED).is_file() or not is_model
        load_weights(state.generator, snapshot / (TRAINED if has_trained else MODEL))
        if is_model and not (snapshot / DISCRIMINATOR).is_file():
            log.warning(
                "%s has no discriminator: a new one starts untrained; with --optim.warm-up-kimg 4 it learns before "
                "the generator does",
                snapshot,
            )
            return
        load_weights(state.discriminator, snapshot / DISCRIMINATOR)
        if state.projected is not None:
            if (snapshot / PROJECTED).is_file():
                load_weights(state.projected, snapshot / PROJECTED)
            else:
                log.info("%s was trained without a projected discriminator: its heads start untrained", snapshot)
        if is_model:
            return
        with _naming(TRAINING):
            tensors, _ = tensor_file.load(snapshot / TRAINING)
        _fill(state, tensors, progress)
        state.images, state.step = progress.images, progress.step
    except InputError as error:
        raise InputError(
            f"{snapshot}: can't be resumed ({error.message})",
            hint="remove that folder: the run then continues from the snapshot before it",
        ) from None


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"{name}: can't be read ({error})", hint="copy the snapshot again") from None


def _checksums(snapshot: Path) -> dict[str, str]:
    return {path.name: tensor_file.stored_checksum(path) for path in sorted(snapshot.glob("*.safetensors"))}


def _check_files(snapshot: Path, progress: Progress) -> None:
    """Check that the files of tensors are there and of this snapshot, by the checksums that they say they have."""
    for name, checksum in progress.checksums.items():
        with _naming(name):
            stored = tensor_file.stored_checksum(snapshot / name)
        if stored and stored != checksum:
            raise InputError(f"{name} is of another snapshot", hint="copy the snapshot again")


def _fill(state: State, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Load optimisers and running figures from a snapshot's tensors; each must be there, with its shape, and finite.

    A parameter that never had a gradient (frozen, or of an unused discriminator) has no optimiser state to load.
    """

    def taken(name: str, like: Tensor) -> Tensor:
        found = tensors.get(name)
        if found is None:
            raise InputError(f"{TRAINING} lacks {name}", hint="copy the snapshot again")
        if found.shape != like.shape or not found.is_floating_point():
            shapes = f"{found.dtype} {tuple(found.shape)}, not {tuple(like.shape)}"
            raise InputError(f"{TRAINING}: {name} is {shapes}", hint="copy the snapshot again")
        if not torch.isfinite(found).all():
            raise InputError(f"{TRAINING}: {name} is not finite", hint="resume from an earlier snapshot")
        return found

    is_short = progress.step > 0 if progress.num_tensors is None else len(tensors) < progress.num_tensors
    for prefix, network, optim in _optimisers(state):
        if prefix == "optim_p" and not any(name.startswith(f"{prefix}.") for name in tensors):
            continue  # its heads start untrained
        for name, parameter in network.named_parameters():
            names = {key: f"{prefix}.{name}.{key}" for key in _ADAM}
            if not is_short and not any(one in tensors for one in names.values()):
                continue
            step = taken(names["step"], torch.zeros([])).to(_of_step(optim, parameter), copy=True)
            moments = {
                key: taken(names[key], parameter).to(parameter.device, torch.float32).clone() for key in _ADAM[1:]
            }
            optim.state[parameter] = {"step": step, **moments}
    for key in ("mean_length", "augment_p", "real_signs"):
        getattr(state, key).copy_(taken(key, getattr(state, key)))


def broadcast(state: State) -> None:
    """Broadcast process 0's state: networks, averages, optimisers, running figures, images and steps.

    Hosts may have separate disks: only process 0's disk needs to hold the snapshot to resume from.
    """
    if dist.world_size() == 1:
        return
    keys = [
        [name for name, parameter in network.named_parameters() if parameter in optim.state]
        for _, network, optim in _optimisers(state)
    ]
    keys, state.images, state.step = dist.broadcast_object((keys, state.images, state.step))
    dist.broadcast(t for network in (*state.networks.values(), state.ema) for t in network.state_dict().values())
    dist.broadcast([state.mean_length, state.augment_p, state.real_signs])
    for names, (_, network, optim) in zip(keys, _optimisers(state), strict=True):
        parameters = dict(network.named_parameters())
        for name in names:
            parameter = parameters[name]
            kept = optim.state[parameter]
            if not kept:
                kept |= {"step": torch.zeros([]), **{key: torch.zeros_like(parameter) for key in _ADAM[1:]}}
            step = kept["step"].to(parameter.device)
            dist.broadcast([step, kept["exp_avg"], kept["exp_avg_sq"]])
            kept["step"] = step.to(_of_step(optim, parameter))


def save(
    state: State,
    run: Path,
    *,
    notes: dict[str, str | int | float | None],
    illustrate: Callable[[Path], None],
    is_timed: bool = False,
) -> Path:
    """Write a snapshot of `state` and return its folder, which appears only when it is complete.

    Args:
        notes: saved in config.json.
        illustrate: writes sample pictures into the unfinished folder.
        is_timed: only the clock asked for it, not the image count.

    Raises:
        InputError: the disk is full or not writable; older snapshots are untouched.
    """
    name = f"{state.images:09d}"
    final, part = run / "snapshots" / name, run / f".{name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        models.save(part, state.ema, state.discriminator, trained=state.generator, notes=notes)
        illustrate(part)
        if state.projected is not None:
            tensor_file.save(state.projected.state_dict(), part / PROJECTED)
        tensors = _training_tensors(state)
        tensor_file.save(tensors, part / TRAINING)
        progress = Progress(state.images, state.step, is_timed, len(tensors), _checksums(part))
        (part / PROGRESS).write_text(json.dumps(checked_json.sealed(asdict(progress))) + "\n")
        for path in part.iterdir():
            _sync(path)
        if final.exists():  # a run restarted from an earlier snapshot reaches this count a second time
            os.replace(final, run / f".{name}.before.part")
        os.replace(part, final)
        system.sync_folder(final.parent)
        shutil.rmtree(run / f".{name}.before.part", ignore_errors=True)
    except (OSError, SafetensorError, InputError) as error:
        shutil.rmtree(part, ignore_errors=True)
        message = error.message if isinstance(error, AlisError) else str(error)
        raise InputError(
            f"snapshot {name} is not saved: {message}", hint="free some space; older snapshots are kept"
        ) from None
    return final


def _same_model(was: ModelConfig, asked: ModelConfig, snapshot: Path) -> None:
    old, new = was.model_dump(), asked.model_dump()
    changed = [f"{key} = {old[key]} in the run, {new[key]} requested" for key in old if old[key] != new[key]]
    if changed:
        raise ConfigError(
            f"{snapshot}: has other networks: {'; '.join(changed)}",
            hint="use the run's own [model] settings, or give another --out",
        )


def _optimisers(state: State) -> list[tuple[str, torch.nn.Module, torch.optim.Adam]]:
    found: list[tuple[str, torch.nn.Module, torch.optim.Adam]] = [
        ("optim_g", state.generator, state.optim_g),
        ("optim_d", state.discriminator, state.optim_d),
    ]
    if state.projected is not None and state.optim_p is not None:
        found.append(("optim_p", state.projected, state.optim_p))
    return found


def _of_step(optim: torch.optim.Adam, parameter: Tensor) -> torch.device:
    """The device of Adam's step count: the parameter's if CUDA graphs may be used, else the CPU."""
    return parameter.device if optim.defaults["capturable"] else torch.device("cpu")


def _training_tensors(state: State) -> dict[str, Tensor]:
    tensors = {key: getattr(state, key).detach().cpu().clone() for key in ("mean_length", "augment_p", "real_signs")}
    for prefix, network, optim in _optimisers(state):
        for name, parameter in network.named_parameters():
            for key, value in optim.state.get(parameter, {}).items():
                tensors[f"{prefix}.{name}.{key}"] = value.detach().cpu().contiguous()
    return tensors


def _sync(path: Path) -> None:
    if path.is_dir():
        system.sync_folder(path)
        return
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
