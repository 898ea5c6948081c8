"""Batch → generator: the training loop, read from top to bottom; progress is counted in images.

Four phases a step, each on its own draw of codes: generator, its path lengths (every 4th step), discriminator,
its R1 penalty (every 16th). Microbatches are accumulated, gradients summed over processes, both numbered by
position in the sequence, so the same command on more or fewer GPUs computes the same step but for rounding.
Run the same command again to go on.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alis import dist, losses, monitor, state
from alis.augment import Augment
from alis.data import Loader, open_catalogue
from alis.errors import InputError, TrainingDiverged
from alis.models import Discriminator, Generator
from alis.monitor import Monitor
from alis.recipe import TrainConfig
from alis.state import State

log = logging.getLogger("alis")
G_MAIN, G_PATH, D_MAIN, D_R1, MIRROR = range(5)
Measure = Callable[[Generator, Path], tuple[str, float]]


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

    Args:
        data: address of a Parquet image dataset.
        run: the run's folder.
        resume: `auto` goes on from the run's newest snapshot; `never` refuses to touch a run that has one;
            a path starts from that snapshot.
        measure: (averaged generator, run) → (name, value), smaller is better; asked at each snapshot.

    Raises:
        ConfigError, InputError, DataError, RunError
        TrainingDiverged: a loss or a weight became NaN; the hint names the last good snapshot.
    """
    where = dist.start(device)
    config = config.resolved(dist.world())
    is_first = dist.rank() == 0
    loss, optim = config.loss, config.optim
    batch, micro = optim.batch, optim.micro
    assert batch is not None and micro is not None
    num_micro, seed = batch // micro, config.run.seed

    catalogue = open_catalogue(data, config.data.column)
    s = build(config, where)
    start_from = _start_from(run, resume)
    if start_from is not None:
        state.restore(s, start_from)
        log.info("going on from %s", start_from)
    dist.broadcast([*s.generator.state_dict().values(), *s.discriminator.state_dict().values()])
    if is_first:
        run.mkdir(parents=True, exist_ok=True)
        about = {"address": data, "num_images": catalogue.num_images, "fingerprint": catalogue.fingerprint}
        monitor.explain(run, config, about, s.images)
        log.info(
            "%d images of %s · batch %d on %d process(es) of %s", catalogue.num_images, data, batch, dist.world(), where
        )
    augment = Augment(s.augment_p) if config.augment.kind != "none" else None
    paint, judge = _passes(s, config, augment)
    total, tick = round(config.run.kimg * 1000), round(config.run.tick_kimg * 1000)
    loader = Loader(
        catalogue, config.model.resolution, batch=batch, micro=micro, start=s.images, rank=dist.rank(),
        world=dist.world(), seed=seed, fit=config.data.fit, threads=config.data.threads, ahead=config.data.ahead,
        buffer_mb=config.data.buffer_mb, pin=where.type == "cuda",
    )  # fmt: skip
    board = Monitor(run, start=s.images, total=total, device=where) if is_first else None
    snapshot, num_ticks = start_from, 0

    with loader, _stopping() as stopped:
        while s.images < total:
            own = range(dist.rank(), num_micro, dist.world())
            reals = {j: _to_device(next(loader), where, config.data.mirror, (seed, s.images, j, MIRROR)) for j in own}
            is_ramping = s.images // 1000 < loss.shift_ramp_kimg

            def codes(num: int, is_ramping: bool = is_ramping) -> losses.Draw:
                return losses.draw(s.generator, num, mixing=loss.style_mixing, is_ramping=is_ramping)

            # Generator: fakes that the discriminator takes for real.
            _learns(s.generator, s.discriminator)
            sums = torch.zeros(2 + config.model.w_dim, device=where)
            for j in own:
                with losses.seeded(seed, s.images, j, G_MAIN):
                    drawn = codes(micro)
                    value, fake_logits = losses.generator_loss(paint.main, judge.main, drawn)
                (value / num_micro).backward()
                sums += _packed(value, fake_logits.sign().mean(), drawn.mean_w)
            sums = _descend(s.optim_g, s.generator, sums) / num_micro
            loss_g, sign_fake = sums[0], sums[1]
            s.generator.mapping.track(sums[None, 2:])

            # Generator: steps of w that change the picture equally much everywhere.
            if loss.pl_weight and s.step % loss.pl_every == 0:
                sums = torch.zeros(2 + config.model.w_dim, device=where)
                for j in own:
                    with losses.seeded(seed, s.images, j, G_PATH):
                        drawn = codes(max(micro // loss.pl_shrink, 1))
                        lengths = losses.path_lengths(paint.eager, drawn)
                    value = losses.path_length_loss(lengths, s.mean_length)
                    (value * (loss.pl_weight * loss.pl_every / num_micro)).backward()
                    sums += _packed(value, lengths.mean(), drawn.mean_w)
                sums = _descend(s.optim_g, s.generator, sums) / num_micro
                s.mean_length.lerp_(sums[1], loss.pl_decay)
                if board is not None:
                    board.add(path_penalty=sums[0], path_length=s.mean_length)

            # Discriminator: tells fakes from reals.
            _learns(s.discriminator, s.generator)
            sums = torch.zeros(2 + config.model.w_dim, device=where)
            for j in own:
                with losses.seeded(seed, s.images, j, D_MAIN):
                    with torch.no_grad():
                        drawn = codes(micro)
                        fakes = paint.main(drawn.left, drawn.centre, drawn.right, drawn.shift)
                    value, _, real_logits = losses.discriminator_loss(judge.main, fakes, reals[j])
                (value / num_micro).backward()
                sums += _packed(value, real_logits.sign().mean(), drawn.mean_w)
            sums = _descend(s.optim_d, s.discriminator, sums) / num_micro
            loss_d, sign_real = sums[0], sums[1]
            s.generator.mapping.track(sums[None, 2:])

            # Discriminator: flat around real pictures.
            if loss.r1_gamma and s.step % loss.r1_every == 0:
                sums = torch.zeros(2 + config.model.w_dim, device=where)
                for j in own:
                    with losses.seeded(seed, s.images, j, D_R1):
                        value = losses.r1_penalty(judge.eager, reals[j]).mean()
                    (value * (loss.r1_gamma / 2 * loss.r1_every / num_micro)).backward()
                    sums += _packed(value, value, s.generator.mapping.w_avg)
                sums = _descend(s.optim_d, s.discriminator, sums) / num_micro
                if board is not None:
                    board.add(r1=sums[0])

            beta = losses.ema_beta(batch, s.images, config.ema.half_life_kimg, config.ema.ramp_up)
            losses.average(s.ema, s.generator, beta)
            s.images, s.step = s.images + batch, s.step + 1
            if augment is not None:
                augment.steer(s.real_signs, sign_real, batch, s.step, config.augment)
            if board is not None:
                board.add(loss_g=loss_g, loss_d=loss_d, sign_real=sign_real, sign_fake=sign_fake)

            is_stopping = (s.step % 8 == 0 and dist.any_true(stopped.is_set(), where)) or (
                dist.world() == 1 and stopped.is_set()
            )
            is_end = s.images >= total or is_stopping
            if s.images // tick == (s.images - batch) // tick and not is_end:
                continue
            num_ticks += 1
            _check(s, loss_g, loss_d, snapshot)
            if board is not None:
                board.tick(s.images, loader.wait_s, num_bad=loader.num_bad, augment_p=float(s.augment_p))
            if num_ticks % config.run.snapshot_ticks == 0 or is_end:
                if is_first:
                    snapshot = _snapshot(s, run, config, about, snapshot, board, measure if not is_stopping else None)
                dist.wait()
            if is_stopping:
                log.info("stopped by a signal after %d images; run the same command again to go on", s.images)
                break
    if board is not None:
        board.close()
    dist.stop()
    if snapshot is None:
        raise InputError(f"{run}: no snapshot could be written", hint="free some space and run the command again")
    return snapshot


def build(config: TrainConfig, device: torch.device) -> State:
    """Networks and optimisers at their start, a function of the seed alone."""
    optim, loss = config.optim, config.loss
    assert optim.lr_g is not None and optim.lr_d is not None
    with losses.seeded(config.run.seed):
        generator = Generator(config.model).to(device).train()
        discriminator = Discriminator(config.model).to(device).train()
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    if device.type == "cuda" and config.run.precision != "float32":
        dtype = getattr(torch, config.run.precision)
        for network in (generator, discriminator, ema):
            network.set_precision(dtype)
    lr_g, betas_g = losses.lazy_adam(optim.lr_g, optim.beta1, optim.beta2, loss.pl_every if loss.pl_weight else None)
    lr_d, betas_d = losses.lazy_adam(optim.lr_d, optim.beta1, optim.beta2, loss.r1_every if loss.r1_gamma else None)
    return State(
        generator,
        discriminator,
        ema,
        torch.optim.Adam(generator.parameters(), lr=lr_g, betas=betas_g, eps=optim.eps),
        torch.optim.Adam(discriminator.parameters(), lr=lr_d, betas=betas_d, eps=optim.eps),
        mean_length=torch.zeros([], device=device),
        augment_p=torch.tensor(config.augment.p, device=device),
        real_signs=torch.zeros(2, device=device),
    )


class _Passes:
    """A pass as the main phases run it (compiled where asked) and as the regularisers do (eager)."""

    def __init__(self, eager: Callable[..., Tensor], mode: str) -> None:
        self.eager = eager
        self.main: Callable[..., Tensor] = eager if mode == "off" else torch.compile(eager, mode=mode)


def _passes(s: State, config: TrainConfig, augment: Augment | None) -> tuple[_Passes, _Passes]:
    def paint(left: Tensor, centre: Tensor, right: Tensor, shift: Tensor) -> Tensor:
        return s.generator(left, centre, right, shift, noise="random")

    def judge(images: Tensor) -> Tensor:
        return s.discriminator(images if augment is None else augment(images))

    return _Passes(paint, config.run.compile), _Passes(judge, config.run.compile)


def _to_device(images_BHWC: Tensor, device: torch.device, mirror: bool, key: tuple[int, ...]) -> Tensor:
    """uint8 [B, R, R, 3] → float32 [B, 3, R, R] in [-1, 1], half of them mirrored if asked."""
    images = images_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1
    if mirror:
        with losses.seeded(*key):
            flips = torch.rand(len(images)) < 0.5
        images = torch.where(flips.to(device)[:, None, None, None], images.flip(3), images)
    return images


def _learns(network: nn.Module, other: nn.Module) -> None:
    network.requires_grad_(True)
    other.requires_grad_(False)


def _packed(value: Tensor, second: Tensor, mean_w: Tensor) -> Tensor:
    """Figures of a microbatch as they are summed: loss, one more, mean code."""
    return torch.cat([torch.stack([value.detach(), second.detach()]), mean_w])


def _descend(optim: torch.optim.Adam, network: nn.Module, sums: Tensor) -> Tensor:
    """Sum gradients and figures over processes, take a step; returns the summed figures."""
    sums = dist.sum_gradients(network.parameters(), sums)
    optim.step()
    optim.zero_grad(set_to_none=True)
    return sums


def _check(s: State, loss_g: Tensor, loss_d: Tensor, snapshot: Path | None) -> None:
    """Stop rather than save nonsense."""
    figures = {"generator's loss": loss_g, "discriminator's loss": loss_d}
    for name, network in (("generator", s.generator), ("discriminator", s.discriminator)):
        figures[f"{name}'s weights"] = torch.stack([p.detach().float().sum() for p in network.parameters()]).sum()
    bad = [f"{name} {float(value)}" for name, value in figures.items() if not math.isfinite(float(value))]
    if bad:
        last = f"the last good state is {snapshot}" if snapshot else "no snapshot was written yet"
        raise TrainingDiverged(
            f"after {s.images} images: {', '.join(bad)}",
            hint=f"{last}; try a lower --optim.lr-d, more --loss.r1-gamma or --run.precision float32",
        )


def _snapshot(
    s: State,
    run: Path,
    config: TrainConfig,
    about: dict[str, Any],
    last: Path | None,
    board: Monitor | None,
    measure: Measure | None,
) -> Path | None:
    """Save, measure, prune. A full disk costs this snapshot, not the run."""
    notes = {"images": s.images, "data": str(about["address"]), "fingerprint": str(about["fingerprint"])}
    try:
        folder = state.save(
            s, run, notes=notes, illustrate=lambda path: monitor.illustrate(path, s.ema, psi=config.run.psi)
        )
        log.info("wrote %s", folder)
        if measure is not None:
            name, value = measure(s.ema, run)
            is_best = state.note_best(run, folder.name, name, value)
            log.info("%s %.3f%s", name, value, " (best so far)" if is_best else "")
            if board is not None:
                board.write({"images": s.images, "kimg": s.images / 1000, name: value})
        state.prune(run, config.run.keep)
        return folder
    except (InputError, OSError) as error:
        log.warning("%s", error)
        return last


def _start_from(run: Path, resume: str) -> Path | None:
    newest = state.newest(run)
    if resume == "auto":
        return newest
    if resume == "never":
        if newest is not None:
            raise InputError(
                f"{run}: already holds {newest.name}", hint="leave --resume out to go on, or give a new --out"
            )
        return None
    asked = Path(resume)
    found = asked if (asked / state.PROGRESS).is_file() else state.newest(asked)
    if found is None:
        raise InputError(
            f"{resume}: no snapshot to start from", hint="give auto, never, or a run's or snapshot's folder"
        )
    return found


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the loop can save and leave; SIGINT stays an interrupt."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
