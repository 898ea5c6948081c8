"""A run's folder: its lock, the snapshot that a start continues from, and which snapshots are kept.

`state` defines what a snapshot contains; `monitor` writes `run.json` and `metrics.jsonl`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alis.errors import InputError
from alis.models.model_folder import CONFIG, DEMO, DEMO_WORD, MODEL
from alis.training.state import PROGRESS, read_progress
from lhq import checked_json, system

log = logging.getLogger("alis")


@dataclass(frozen=True)
class StartingPoint:
    """The folder to load the state from (None: a fresh start), and whether it is one of the run's own snapshots."""

    folder: Path | None
    is_own: bool


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Create the run's folder and lock it against other processes.

    Raises:
        InputError: another process trains there (the message has its pid), or the folder can't be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            run.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((run / ".lock").open("a+"))
        except OSError as error:
            raise InputError(f"{run}: can't be written ({error})", hint="give another --out") from None
        try:
            system.lock(lock)
        except BlockingIOError:
            lock.seek(0)
            hint = "wait for it, stop it (kill saves a snapshot), or give another --out"
            raise InputError(f"{run}: process {lock.read().strip()} trains there", hint=hint) from None
        with contextlib.suppress(OSError):  # on a full disk, the lock works without the pid
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        yield


def snapshots(run: Path) -> list[Path]:
    """The complete snapshots of a run that training can resume from, oldest first."""
    return sorted(path.parent for path in (run / "snapshots").glob(f"*/{PROGRESS}"))


def newest(run: Path) -> Path | None:
    """The newest snapshot that training can resume from, or None."""
    return next(reversed(snapshots(run)), None)


def can_start_from(folder: Path) -> bool:
    """Whether training can start from a folder: a snapshot, or a model (imported, slim)."""
    return (folder / PROGRESS).is_file() or all((folder / name).is_file() for name in (CONFIG, MODEL))


def starting_point(run: Path, resume: str) -> StartingPoint:
    """Where a start of `run` takes its state from; `resume` as in `alis.training.loop.train`.

    Raises:
        InputError: `never` on a run that has a snapshot, or a path without one.
    """
    own = newest(run)
    if resume == "auto":
        return StartingPoint(own, is_own=True)
    if resume == "never":
        if own is not None:
            hint = "leave --resume out to continue, or give a new --out"
            raise InputError(f"{run}: already has snapshot {own.name}", hint=hint)
        return StartingPoint(None, is_own=True)
    asked = DEMO if resume == DEMO_WORD else Path(resume)
    found = asked if can_start_from(asked) else newest(asked)
    if found is None:
        hint = "give auto, never, demo, or the folder of a run, of a snapshot or of a model"
        raise InputError(f"{resume}: no snapshot to start from", hint=hint)
    if found.resolve().is_relative_to(run.resolve()):
        return StartingPoint(found, is_own=True)
    if own is not None:
        log.info("this run has a snapshot of its own: it does not start from %s again", resume)
        return StartingPoint(own, is_own=True)
    return StartingPoint(found, is_own=False)


def prune(run: Path, keep: int) -> None:
    """Remove all snapshots except the newest `keep`, the best and the newest timed one; also leftovers of killed runs.

    Timed snapshots (`run.snapshot_minutes`) guard against crashes: any newer snapshot replaces them.
    """
    best = read_best(run)
    found = snapshots(run)
    timed = {folder for folder in found if read_progress(folder).is_timed}
    kept = {folder for folder in found if folder not in timed}
    kept = {*sorted(kept)[-keep:], *found[-1:]}
    for folder in found:
        if folder not in kept and (best is None or folder.name != best[0]):
            shutil.rmtree(folder, ignore_errors=True)
    for path in run.glob(".*.part"):
        shutil.rmtree(path, ignore_errors=True)


def note_best(run: Path, snapshot: str, metric: str, value: float) -> bool:
    """Write best.json if `value` is the smallest so far of this metric; return whether it is.

    Raises:
        OSError: it can't be written.
    """
    best = read_best(run)
    if best is not None and best[1] == metric and best[2] <= value:
        return False
    part = run / "best.json.part"
    record = checked_json.sealed({"snapshot": snapshot, "metric": metric, "value": value})
    part.write_text(json.dumps(record) + "\n")
    os.replace(part, run / "best.json")
    return True


def read_best(run: Path) -> tuple[str, str, float] | None:
    """(snapshot, metric, value) from best.json, or None if there is none or it is damaged."""
    path = run / "best.json"
    try:
        table = checked_json.opened(json.loads(path.read_text()))
        return str(table["snapshot"]), str(table["metric"]), float(table["value"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s: damaged, left out (%s): the next measured snapshot counts as the best", path, error)
        return None
