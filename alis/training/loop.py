"""Batch → generator: the training loop, read from top to bottom; progress is counted in images.

To go on after a stop or a crash, run the same command; the number of processes may differ. What a step computes
is in `step`, what a run leaves on disk in `state`, what it says in `monitor`.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alis import dist
from alis.data import Loader, open_catalogue
from alis.errors import InputError, TrainingDiverged
from alis.models import Generator
from alis.training import losses, monitor, state
from alis.training.monitor import Monitor
from alis.training.recipe import TrainConfig
from alis.training.state import State
from alis.training.step import Step, build

log = logging.getLogger("alis")
ASK_EVERY = 8  # steps between two looks at whether any process was told to stop
Measure = Callable[[Generator], tuple[str, float]]


def train(
    config: TrainConfig,
    data: str,
    run: Path,
    *,
    resume: str = "auto",
    device: str = "auto",
    measure: Measure | None = None,
) -> Path:
    """Train until `run.kimg` thousand images were shown, or SIGTERM; return the last snapshot's folder.

    A first Ctrl-C saves a snapshot as SIGTERM does, then interrupts; another one a second later interrupts at once.

    Args:
        data: address of a Parquet image dataset.
        run: the run's folder.
        resume: `auto` goes on from the run's newest snapshot; `never` refuses to touch a run that has one;
            a path starts from that snapshot, or with the networks of that model at 0 images; once the run has a
            snapshot of its own it goes on from there, unless the path is one of them.
        measure: averaged generator → (name, value), smaller is better; asked at each snapshot, by every process.

    Raises:
        ConfigError, InputError, DataError, RunError
        TrainingDiverged: a loss or a weight became NaN; the hint names the last good snapshot.
        KeyboardInterrupt: after Ctrl-C.
    """
    where = dist.start(device)
    with state.held(run) if dist.rank() == 0 else nullcontext():
        return _train(config.resolved(dist.world()), data, run, resume, where, measure)


def _train(
    config: TrainConfig, data: str, run: Path, resume: str, where: torch.device, measure: Measure | None
) -> Path:
    """The loop: see `train`. `config` is resolved."""
    batch, micro = config.optim.batch, config.optim.micro
    assert batch is not None
    assert micro is not None
    catalogue = open_catalogue(data, config.data.column)
    s = build(config, where)
    snapshot = _start_from(run, resume)
    if snapshot is not None:
        state.restore(s, snapshot)
        log.info("going on from %s" if s.images else "beginning with the networks of %s", snapshot)
    dist.broadcast(value for network in s.networks.values() for value in network.state_dict().values())
    about: dict[str, str | int] = {
        "address": data,
        "num_images": catalogue.num_images,
        "fingerprint": catalogue.fingerprint,
    }
    total, tick = round(config.run.kimg * 1000), max(round(config.run.tick_kimg * 1000), batch)
    board = None
    if dist.rank() == 0:
        monitor.explain(run, config, about, s.images)
        board = Monitor(run, start=s.images, total=total, device=where)
        log.info("%d images of %s · batch %d on %d × %s", catalogue.num_images, data, batch, dist.world(), where)
    step = Step(s, config)
    loader = Loader(
        catalogue,
        config.model.resolution,
        batch=batch,
        micro=micro,
        start=s.images,
        rank=dist.rank(),
        world=dist.world(),
        seed=config.run.seed,
        fit=config.data.fit,
        threads=config.data.threads,
        ahead=config.data.ahead,
        buffer_mb=config.data.buffer_mb,
        pin=where.type == "cuda",
    )

    with loader, _told_to_stop() as told:
        while s.images < total:
            reals = {j: step.reals(next(loader), j, mirror=config.data.mirror) for j in step.own}
            figures: dict[str, Tensor] = {}

            figures["loss_g"], figures["sign_fake"] = step.generator()
            if config.loss.pl_weight and s.step % config.loss.pl_every == 0:
                figures["path_penalty"], figures["path_length"] = step.path_length()
            figures["loss_d"], figures["sign_real"] = step.discriminator(reals)
            if step.pays_r1 and s.step % config.loss.r1_every == 0:
                figures["r1"] = step.r1(reals)

            beta = losses.ema_beta(batch, s.images, config.ema.half_life_kimg, config.ema.ramp_up)
            losses.average(s.ema, s.generator, beta)
            s.images, s.step = s.images + batch, s.step + 1
            if step.augment is not None:
                step.augment.steer(s.real_signs, figures["sign_real"], batch, s.step, config.augment)
            if board is not None:
                board.add(**figures)

            is_stopping = (dist.world() == 1 or s.step % ASK_EVERY == 0) and dist.any_true(told.to_stop, where)
            is_end = s.images >= total or is_stopping
            if is_end or _crosses(tick, s.images, batch):
                _check(s, figures, snapshot)
                num_bad = dist.sum_(torch.tensor(float(loader.num_bad), device=where))
                if board is not None:
                    board.tick(s.images, loader.wait_s, num_bad=int(num_bad), augment_p=float(s.augment_p))
            if is_end or _crosses(tick * config.run.snapshot_ticks, s.images, batch):
                snapshot = _snapshot(s, run, config, about, snapshot, board, None if is_stopping else measure)
            if is_stopping:
                log.info("told to stop after %d images; run the same command again to go on", s.images)
                break
    if board is not None:
        board.close()
    if snapshot is None:
        raise InputError(f"{run}: no snapshot could be written", hint="free some space and run the command again")
    if told.by_hand:
        raise KeyboardInterrupt
    return snapshot


def _crosses(interval: int, images: int, batch: int) -> bool:
    """Whether the last step went past a multiple of the interval."""
    return images // interval != (images - batch) // interval


def _check(s: State, figures: dict[str, Tensor], snapshot: Path | None) -> None:
    """Stop rather than save nonsense; every process sees the same figures."""
    for name, network in s.networks.items():
        sums = [parameter.detach().float().sum() for parameter in network.parameters()]
        figures = {**figures, f"{name}'s weights": torch.stack(sums).sum()}
    bad = [f"{name} is {float(value)}" for name, value in figures.items() if not math.isfinite(float(value))]
    if bad:
        last = f"the last good state is {snapshot}" if snapshot else "no snapshot was written yet"
        raise TrainingDiverged(
            f"after {s.images} images {', '.join(bad)}",
            hint=f"{last}; try a lower --optim.lr-d, more --loss.r1-gamma or --run.precision float32",
        )


def _snapshot(
    s: State,
    run: Path,
    config: TrainConfig,
    about: dict[str, str | int],
    last: Path | None,
    board: Monitor | None,
    measure: Measure | None,
) -> Path | None:
    """Save, measure, prune. A full disk costs this snapshot, not the run."""
    saved: Path | None = run / "snapshots" / f"{s.images:09d}"
    if board is not None:
        notes: dict[str, str | int | float | None] = {"images": s.images, "data": about["address"]}
        if s.projected is not None:
            notes["trained_with"] = "lite0"
        try:
            state.save(s, run, notes=notes, illustrate=lambda path: monitor.illustrate(path, s.ema, psi=config.run.psi))
            log.info("wrote %s", saved)
        except InputError as error:
            log.warning("%s", error)
            saved = last
    dist.wait()
    if measure is not None:
        name, value = measure(s.ema)
        if board is not None and saved is not None:
            is_best = saved != last and state.note_best(run, saved.name, name, value)
            log.info("%s %.3f%s", name, value, " (best so far)" if is_best else "")
            board.write({"images": s.images, "kimg": s.images / 1000, name: value})
    if board is not None:
        state.prune(run, config.run.keep)
    return saved


def _start_from(run: Path, resume: str) -> Path | None:
    newest = state.newest(run)
    if resume == "auto":
        return newest
    if resume == "never":
        if newest is not None:
            hint = "leave --resume out to go on, or give a new --out"
            raise InputError(f"{run}: already holds {newest.name}", hint=hint)
        return None
    asked = Path(resume)
    found = asked if state.can_begin(asked) else state.newest(asked)
    if found is None:
        hint = "give auto, never, or the folder of a run, of a snapshot, or of a model with its discriminator"
        raise InputError(f"{resume}: no snapshot to start from", hint=hint)
    if newest is not None and not found.resolve().is_relative_to(run.resolve()):
        log.info("this run has begun already: it does not start from %s again", resume)
        return newest
    return found


@dataclass
class _Told:
    """What signals have said so far."""

    to_stop: bool = False
    by_hand: bool = False
    at: float = 0.0

    def terminate(self, *_: object) -> None:
        """SIGTERM: save and leave with 0."""
        self.to_stop = True

    def interrupt(self, *_: object) -> None:
        """Ctrl-C: save and leave; again, and not as the echo that torchrun sends, at once."""
        if self.by_hand and time.monotonic() - self.at > 1:
            raise KeyboardInterrupt
        if not self.by_hand:
            log.info("stopping: a snapshot is saved first; Ctrl-C again stops at once")
            self.to_stop, self.by_hand, self.at = True, True, time.monotonic()


@contextmanager
def _told_to_stop() -> Iterator[_Told]:
    """Listens to SIGTERM and SIGINT, so that the loop can save before it leaves."""
    told = _Told()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    wanted: dict[signal.Signals, Callable[..., None]] = {signal.SIGTERM: told.terminate, signal.SIGINT: told.interrupt}
    # A background job of a shell is born deaf to Ctrl-C, and stays so.
    before = {which: signal.getsignal(which) for which in wanted}
    for which, ours in wanted.items():
        if before[which] is not signal.SIG_IGN:
            signal.signal(which, ours)
    try:
        yield told
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
