"""Batches → generator: the training loop, to be read from top to bottom; progress is counted in images.

To continue after a stop or a crash, run the same command again; the number of processes may differ. `step` computes a
training step, `state` and `run_folder` keep a run on disk, `snapshots` decides when to save, `monitor` writes logs.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from alis import dist
from alis.data import Catalogue, Loader, RankSlice, ReadOptions, guarded, open_catalogue
from alis.errors import InputError, TrainingDiverged
from alis.training import losses, monitor, run_folder, state
from alis.training.monitor import Monitor
from alis.training.recipe import TrainConfig
from alis.training.run_folder import StartingPoint
from alis.training.snapshots import Measure, Snapshots
from alis.training.state import State
from alis.training.step import Step, build
from alis.training.stop import StopRequest, stop_on_signals

log = logging.getLogger("alis")
CHECK_EVERY = 8  # steps between two checks of all processes' stop requests and of process 0's clock


def train(
    config: TrainConfig,
    data: str,
    run: Path,
    *,
    resume: str = "auto",
    device: str = "auto",
    measure: Measure | None = None,
) -> Path:
    """Train for `run.kimg` thousand images or `run.minutes`, or until a signal; return the last snapshot's folder.

    SIGTERM and SIGUSR1 save a snapshot and exit; a first Ctrl-C also saves one, then interrupts; a second Ctrl-C, at
    least a second later, interrupts at once. Process 0 decides where a run continues from, and broadcasts its state.

    Args:
        data: address of an image dataset, see `alis.data.open_catalogue`.
        run: the run's folder.
        resume: `auto`: continue from the run's newest snapshot; `never`: refuse a run that already has a snapshot; a
            path: start from that snapshot, or from that model's networks at 0 images (see `run.count`). A run that has
            a snapshot of its own continues from it, unless the path is one of its own snapshots.
        measure: averaged generator → (metric's name, value), smaller is better; called by every process at each
            snapshot, except those that only the clock asked for. If it raises an `AlisError`, that is a warning.

    Raises:
        ConfigError, InputError, DataError
        RunError: the run's final state can't be saved in its folder.
        TrainingDiverged: a loss or a weight became NaN; the hint names the last good snapshot.
        KeyboardInterrupt: after Ctrl-C.
    """
    began = time.monotonic()
    where = dist.start(device)
    resolved = config.resolved(dist.world_size())
    with run_folder.locked(run) if dist.rank() == 0 else nullcontext():
        catalogue = _open_same_dataset(data, resolved, run)
        s = build(resolved, where)
        beginning = _restore_start(s, run, resume, resolved)
        schedule = _Schedule(resolved, began)
        board = dist.run_on_all(
            lambda: None if dist.rank() else _open_monitor(run, resolved, catalogue, s, schedule, beginning)
        )
        last = None if dist.rank() else run_folder.newest(run)
        snapshots = Snapshots(run, s, resolved.run, data, board, measure, last)
        with _open_loader(catalogue, resolved, s) as loader, stop_on_signals() as request:
            _loop(s, resolved, loader, schedule, snapshots, request)
        if board is not None:
            board.close()
        if request.is_by_hand:
            raise KeyboardInterrupt
        return dist.broadcast_object(snapshots.last) or run


def _loop(
    s: State,
    config: TrainConfig,
    loader: Loader,
    schedule: _Schedule,
    snapshots: Snapshots,
    request: StopRequest,
) -> None:
    """Run steps until enough images were seen, the time is over, or a signal came."""
    step, board = Step(s, config), snapshots.board
    while s.images < schedule.total:
        figures = train_step(s, config, step, loader)
        if board is not None:
            board.add(**figures)
        is_told, is_over, is_due = schedule.asks(s.step, request, snapshots)
        is_end = s.images >= schedule.total or is_told or is_over
        is_tick = is_end or schedule.crosses(schedule.tick, s.images)
        is_wanted = schedule.crosses(schedule.snapshot, s.images) or (is_tick and snapshots.is_overdue)
        if is_tick or is_wanted or is_due:
            _check_finite(s, figures, snapshots.last)
        if is_tick:
            num_bad = dist.all_reduce_sum_(torch.tensor(float(loader.num_bad), device=s.mean_length.device))
            if board is not None:
                board.tick(s.images, loader.wait_s, num_bad=int(num_bad), augment_p=float(s.augment_p))
        if is_end:
            is_finished = s.images >= schedule.total
            snapshots.write_last(is_measured=is_finished)
            if not is_finished:
                why = "stopped" if is_told else "the time is over"
                log.info("%s after %d images; run the same command again to continue", why, s.images)
                return
        elif is_wanted or is_due:
            snapshots.write(is_timed=not is_wanted)


def train_step(s: State, config: TrainConfig, step: Step, loader: Loader) -> dict[str, Tensor]:
    """One training step: load pictures, run all phases that are due, update averages, counts and augmentation.

    Returns the step's figures: losses, signs of logits and penalties, as scalar tensors.
    """
    batch, loss = loader.share.batch, config.loss
    reals = {j: step.reals(next(loader), j, mirror=config.data.mirror) for j in step.own}
    figures: dict[str, Tensor] = {}
    if config.optim.has_schedule:
        decay = losses.cosine_decay(s.images, round(config.run.kimg * 1000), config.optim.lr_end)
        step.set_rates(decay, losses.warm_up(s.images, round(config.optim.warm_up_kimg * 1000)))

    figures["loss_g"], figures["sign_fake"] = step.generator()
    if loss.pl_weight and s.step % loss.pl_every == 0:
        figures["path_penalty"], figures["path_length"] = step.path_length()
    figures["loss_d"], figures["sign_real"] = step.discriminator(reals)
    if step.has_r1 and s.step % loss.r1_every == 0:
        figures["r1"] = step.r1(reals)

    beta = losses.ema_beta(batch, s.images, config.ema.half_life_kimg, config.ema.ramp_up)
    losses.update_ema(s.ema, s.generator, beta)
    s.images, s.step = s.images + batch, s.step + 1
    if step.augment is not None:
        step.augment.steer(s.real_signs, figures["sign_real"], batch, s.step, config.augment)
    return figures


def _check_finite(s: State, figures: dict[str, Tensor], snapshot: Path | None) -> None:
    """Raises: TrainingDiverged: a figure or a weight is not finite, the same in every process."""
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


class _Schedule:
    """When a run logs, saves and ends: by image counts, and by the clock of process 0."""

    def __init__(self, config: TrainConfig, began: float) -> None:
        assert config.optim.batch is not None
        self.batch, run = config.optim.batch, config.run
        self.total, self.tick = round(run.kimg * 1000), max(round(run.tick_kimg * 1000), self.batch)
        self.snapshot = self.tick * run.snapshot_ticks
        self._began, self._minutes, self._snapshot_minutes = began, run.minutes, run.snapshot_minutes
        self._asked, self._longest_s = time.monotonic(), 0.0

    def crosses(self, interval: int, images: int) -> bool:
        """Whether the last step passed a multiple of the interval."""
        return images // interval != (images - self.batch) // interval

    def asks(self, step: int, request: StopRequest, snapshots: Snapshots) -> tuple[bool, bool, bool]:
        """(a stop was requested, the time is over, a snapshot is due), the same in all processes.

        The time counts as over when too little is left to reach the next check and save a snapshot.
        """
        if dist.world_size() > 1 and step % CHECK_EVERY:
            return False, False, False
        now = time.monotonic()
        self._longest_s, self._asked = max(self._longest_s, now - self._asked), now
        is_over = is_due = False
        if dist.rank() == 0:
            needed_s = self._longest_s + snapshots.longest_s
            is_over = self._minutes is not None and now - self._began + needed_s > self._minutes * 60
            is_due = snapshots.minutes_ago >= self._snapshot_minutes
        stop, over, due = dist.any_true_each([request.is_made, is_over, is_due], snapshots.state.mean_length.device)
        return stop, over, due


def _open_same_dataset(address: str, config: TrainConfig, run: Path) -> Catalogue:
    """Open the dataset, check that it is the same for every process, and leave out what killed an earlier start."""
    wanted, side = config.data, config.model.resolution
    catalogue = dist.run_on_all(lambda: open_catalogue(address, wanted.column, side=side, variant=wanted.variant))
    for number, fingerprint in enumerate(dist.all_gather_objects(catalogue.fingerprint)):
        if fingerprint != dist.broadcast_object(catalogue.fingerprint):
            raise InputError(
                f"{address}: process {number} finds other data there than process 0",
                hint="give all hosts the same dataset, e.g. from s3:// or hf://",
            )
    return guarded(catalogue, side, run)


def _restore_start(s: State, run: Path, resume: str, config: TrainConfig) -> StartingPoint:
    """Restore the state from where process 0 finds it, and broadcast it."""

    def own_images() -> int:
        own = run_folder.newest(run)
        return state.read_progress(own).images if own is not None else -1

    images = dist.all_gather_objects(dist.run_on_all(own_images))
    ahead = max(range(len(images)), key=images.__getitem__)

    def restore() -> StartingPoint:
        if dist.rank():
            return StartingPoint(None, is_own=True)
        beginning = run_folder.starting_point(run, resume)
        if resume != "never" and beginning.is_own and images[ahead] > images[0]:
            raise InputError(
                f"{run}: process {ahead} has a snapshot of {images[ahead]} images there, process 0 of {images[0]}"
                if images[0] >= 0
                else f"{run}: process {ahead} has a snapshot of {images[ahead]} images there, process 0 has none",
                hint="start that host as the first one (--node-rank 0), or copy its snapshot to process 0's host",
            )
        if beginning.folder is not None:
            state.restore(s, beginning.folder)
            _set_image_count(s, beginning, config)
        return beginning

    beginning = dist.run_on_all(restore)
    state.broadcast(s)
    return beginning


def _set_image_count(s: State, beginning: StartingPoint, config: TrainConfig) -> None:
    """Set the image count of a start and log where it starts from."""
    total, was = round(config.run.kimg * 1000), s.images
    if beginning.is_own:
        finished = "" if was < total else ": the run is finished"
        log.info("continuing from %s after %d images%s", beginning.folder, was, finished)
        return
    is_zero = config.run.count == "zero" or (config.run.count == "auto" and was >= total)
    if not is_zero and was >= total:
        raise InputError(
            f"{beginning.folder}: has seen {was} images, and run.kimg asks for {total}: nothing is left to train",
            hint="raise --run.kimg, or start at 0 images with --run.count zero",
        )
    if is_zero:
        s.images = s.step = 0
    if s.images:
        log.info("starting from the state of %s, continuing its count of %d images", beginning.folder, was)
    else:
        after = f" (after {was} images there)" if was else ""
        log.info("starting at 0 images from the state of %s%s", beginning.folder, after)


def _open_monitor(
    run: Path, config: TrainConfig, catalogue: Catalogue, s: State, schedule: _Schedule, beginning: StartingPoint
) -> Monitor:
    """Write run.json and open the monitor of this start."""
    about = {"address": catalogue.address, "num_images": catalogue.num_images, "fingerprint": catalogue.fingerprint}
    where = s.mean_length.device
    try:
        monitor.write_run_json(run, config, about, s.images, begun_with=None if beginning.is_own else beginning.folder)
        board = Monitor(run, start=s.images, total=schedule.total, device=where)
    except OSError as error:
        raise InputError(f"{run}: can't be written ({error})", hint="free some space, or give another --out") from None
    seen = f"{catalogue.num_images} images of {catalogue.address}"
    log.info("%s · batch %d on %d × %s", seen, schedule.batch, dist.world_size(), where)
    return board


def _open_loader(catalogue: Catalogue, config: TrainConfig, s: State) -> Loader:
    optim, data = config.optim, config.data
    assert optim.batch is not None
    assert optim.micro is not None
    return Loader(
        catalogue,
        config.model.resolution,
        RankSlice(optim.batch, optim.micro, dist.rank(), dist.world_size()),
        ReadOptions(
            seed=config.run.seed,
            fit=data.fit,
            threads=data.threads,
            ahead=data.ahead,
            buffer_mb=data.buffer_mb,
            pin=s.mean_length.device.type == "cuda",
        ),
        start=s.images,
    )
