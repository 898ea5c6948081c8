"""A run on disk: everything needed to go on bit for bit, written aside and renamed.

    runs/first/
      run.json               settings, data, versions, every start
      metrics.jsonl          one line a tick
      snapshots/000200000/   a model folder (`alis.load` opens it) of the state after 200,000 images
        config.json model.safetensors generator.safetensors discriminator.safetensors
        projected.safetensors                   heads and mixing of the projected discriminator, if it takes part
        training.safetensors progress.json      optimisers, path-length mean, p of augmentation; images, step
        frames.png strip.png
      best.json              the snapshot with the best metric, kept besides the newest

A folder in snapshots/ is complete. There is no random state to save: every draw is a function of the images seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alis import models
from alis.config import ModelConfig
from alis.errors import AlisError, ConfigError, InputError
from alis.models import Discriminator, Generator
from alis.models.directory import CONFIG, DISCRIMINATOR, MODEL, TRAINED, load_weights, read_config
from alis.models.projected import Projected

TRAINING, PROGRESS, PROJECTED = "training.safetensors", "progress.json", "projected.safetensors"
log = logging.getLogger("alis")


@dataclass
class State:
    """What changes while training."""

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
    """Sum of signs of real logits and their number since p last moved, float32 [2]."""
    projected: Projected | None = None
    optim_p: torch.optim.Adam | None = None
    images: int = 0
    step: int = 0

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """Those in training, by name."""
        found: dict[str, torch.nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        return found if self.projected is None else {**found, "projected": self.projected}


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """The run's folder, made and kept from any other process that would train in it.

    Raises:
        InputError: another process trains there (its pid is named), or the folder can't be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            run.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((run / ".lock").open("a+"))
        except OSError as error:
            raise InputError(f"{run}: can't be written ({error})", hint="give another --out") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            hint = "wait for it, stop it (kill saves a snapshot), or give another --out"
            raise InputError(f"{run}: process {lock.read().strip()} trains there", hint=hint) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def newest(run: Path) -> Path | None:
    """The newest complete snapshot of a run that training can go on from, or None."""
    found = sorted(path.parent for path in (run / "snapshots").glob(f"*/{PROGRESS}"))
    return found[-1] if found else None


def can_begin(folder: Path) -> bool:
    """Whether training can start from a folder: a snapshot, or a model with its discriminator (an imported one)."""
    return (folder / PROGRESS).is_file() or all((folder / name).is_file() for name in (CONFIG, MODEL, DISCRIMINATOR))


def restore(state: State, snapshot: Path) -> None:
    """Fill `state` from a snapshot; from a model without optimisers only its networks, at 0 images.

    Raises:
        ConfigError: the snapshot is of other networks; the message shows the differences.
        InputError: a file is missing or damaged.
    """
    _same_model(read_config(snapshot), state.generator.config, snapshot)
    try:
        load_weights(state.ema, snapshot / MODEL)
        is_model = not (snapshot / PROGRESS).is_file()
        has_trained = (snapshot / TRAINED).is_file() or not is_model
        load_weights(state.generator, snapshot / (TRAINED if has_trained else MODEL))
        load_weights(state.discriminator, snapshot / DISCRIMINATOR)
        if state.projected is not None:
            if (snapshot / PROJECTED).is_file():
                load_weights(state.projected, snapshot / PROJECTED)
            else:
                log.info("%s was trained without a projected discriminator: its heads start anew", snapshot)
        if is_model:
            return
        tensors = load_file(snapshot / TRAINING)
        progress = json.loads((snapshot / PROGRESS).read_text(encoding="utf-8"))
        for prefix, network, optim in _optimisers(state):
            for name, parameter in network.named_parameters():
                optim.state[parameter] = {
                    key: tensors[f"{prefix}.{name}.{key}"].to(parameter.device if key != "step" else "cpu").clone()
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{prefix}.{name}.{key}" in tensors
                }
                if not optim.state[parameter]:
                    del optim.state[parameter]
        for key in ("mean_length", "augment_p", "real_signs"):
            getattr(state, key).copy_(tensors[key])
        state.images, state.step = int(progress["images"]), int(progress["step"])
    except (OSError, SafetensorError, ValueError, KeyError, InputError) as error:
        why = error.message if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{snapshot}: can't go on from it ({why})",
            hint="remove that folder: the run goes on from the snapshot before it",
        ) from None


def save(
    state: State, run: Path, *, notes: dict[str, str | int | float | None], illustrate: Callable[[Path], None]
) -> Path:
    """Write a snapshot of `state` and return its folder; it appears when it is complete.

    Args:
        notes: kept in config.json.
        illustrate: writes pictures into the folder before it is finished.

    Raises:
        InputError: the disk is full or can't be written; older snapshots are untouched.
    """
    name = f"{state.images:09d}"
    final, part = run / "snapshots" / name, run / f".{name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        models.save(part, state.ema, state.discriminator, trained=state.generator, notes=notes)
        illustrate(part)
        if state.projected is not None:
            heads = {key: value.detach().contiguous().cpu() for key, value in state.projected.state_dict().items()}
            save_file(heads, part / PROJECTED)
        save_file(_training_tensors(state), part / TRAINING)
        (part / PROGRESS).write_text(json.dumps({"images": state.images, "step": state.step}) + "\n")
        for path in part.iterdir():
            _sync(path)
        if final.exists():
            shutil.rmtree(final)
        os.replace(part, final)
        _sync(final.parent)
    except (OSError, SafetensorError, InputError) as error:
        shutil.rmtree(part, ignore_errors=True)
        said = error.message if isinstance(error, AlisError) else str(error)
        raise InputError(
            f"snapshot {name} is not saved: {said}", hint="free some space; older snapshots stay"
        ) from None
    return final


def prune(run: Path, keep: int) -> None:
    """Remove all snapshots but the newest `keep` and the best, and what killed runs left aside."""
    best = read_best(run)
    names = sorted(path.parent.name for path in (run / "snapshots").glob(f"*/{PROGRESS}"))
    for name in names[:-keep]:
        if best is None or name != best[0]:
            shutil.rmtree(run / "snapshots" / name, ignore_errors=True)
    for path in run.glob(".*.part"):
        shutil.rmtree(path, ignore_errors=True)


def note_best(run: Path, snapshot: str, metric: str, value: float) -> bool:
    """Write best.json if `value` is the smallest so far of this metric; says whether it is."""
    best = read_best(run)
    if best is not None and best[1] == metric and best[2] <= value:
        return False
    part = run / "best.json.part"
    part.write_text(json.dumps({"snapshot": snapshot, "metric": metric, "value": value}) + "\n")
    os.replace(part, run / "best.json")
    return True


def read_best(run: Path) -> tuple[str, str, float] | None:
    """(snapshot, metric, value) of best.json, or None."""
    try:
        table = json.loads((run / "best.json").read_text())
        return str(table["snapshot"]), str(table["metric"]), float(table["value"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same_model(was: ModelConfig, asked: ModelConfig, snapshot: Path) -> None:
    old, new = was.model_dump(), asked.model_dump()
    changed = [f"{key} = {old[key]} in the run, {new[key]} asked" for key in old if old[key] != new[key]]
    if changed:
        raise ConfigError(
            f"{snapshot}: these are other networks: {'; '.join(changed)}",
            hint="ask for the run's own [model], or give another --out",
        )


def _optimisers(state: State) -> list[tuple[str, torch.nn.Module, torch.optim.Adam]]:
    found: list[tuple[str, torch.nn.Module, torch.optim.Adam]] = [
        ("optim_g", state.generator, state.optim_g),
        ("optim_d", state.discriminator, state.optim_d),
    ]
    if state.projected is not None and state.optim_p is not None:
        found.append(("optim_p", state.projected, state.optim_p))
    return found


def _training_tensors(state: State) -> dict[str, Tensor]:
    tensors = {key: getattr(state, key).detach().cpu().clone() for key in ("mean_length", "augment_p", "real_signs")}
    for prefix, network, optim in _optimisers(state):
        for name, parameter in network.named_parameters():
            for key, value in optim.state.get(parameter, {}).items():
                tensors[f"{prefix}.{name}.{key}"] = value.detach().cpu().contiguous()
    return tensors


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
