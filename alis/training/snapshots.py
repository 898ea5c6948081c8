"""When a run writes snapshots, and what happens if one can't be written.

If the disk is full during a run, that snapshot is skipped and tried again at the next tick. At the end of a run nothing
may be lost: the last snapshot is retried, then saved wherever there is space, and the run ends with an error.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from alis import dist, models
from alis.errors import AlisError, InputError, RunError
from alis.models import Generator
from alis.training import monitor, run_folder, state
from alis.training.monitor import Monitor
from alis.training.recipe import RunSettings
from alis.training.state import State

log = logging.getLogger("alis")
Measure = Callable[[Generator], tuple[str, float]]
_WAITS_S = (0.5, 2.0)  # between the tries of the last snapshot


@dataclass
class Snapshots:
    """The snapshots of one start of a run. Only process 0, which has a `board`, writes; all processes measure.

    `last` is the newest snapshot, of this start or an earlier one; None if there is none yet.
    """

    run: Path
    state: State
    settings: RunSettings
    data: str
    board: Monitor | None
    measure: Measure | None = None
    last: Path | None = None
    is_overdue: bool = False
    """Whether the last attempt failed, so that the next tick tries again."""
    longest_s: float = 0.0
    """The longest time that a snapshot took."""
    _at: float = field(default_factory=time.monotonic)

    @property
    def minutes_ago(self) -> float:
        """Minutes since the last snapshot, or since the start."""
        return (time.monotonic() - self._at) / 60

    def write(self, *, is_timed: bool = False) -> None:
        """Save, measure (unless only the clock asked) and prune during a run; a full disk is only a warning."""
        began = time.monotonic()
        is_saved = False
        if self.board is not None:
            try:
                self.last = self._save(is_timed)
                is_saved = True
            except InputError as error:
                log.warning("%s", error)
        self.is_overdue = dist.broadcast_object(not is_saved)
        self._at = time.monotonic()
        self.longest_s = max(self.longest_s, self._at - began)
        self._measure(not is_timed, is_saved)

    def write_last(self, *, is_measured: bool) -> None:
        """Save the run's final state, measure and prune.

        Raises:
            RunError: it can't be saved in the run's folder; the message says what was saved elsewhere, and where.
        """
        dist.run_on_all(self._save_or_rescue)
        self._measure(is_measured, True)

    def _save(self, is_timed: bool) -> Path:
        figures: dict[str, float] = {}

        def illustrate(path: Path) -> None:
            figures.update(monitor.write_samples(path, self.state.ema, psi=self.settings.psi))

        saved = state.save(self.state, self.run, notes=self._notes(), illustrate=illustrate, is_timed=is_timed)
        if self.board is not None:
            self.board.write({"images": self.state.images, "kimg": self.state.images / 1000, **figures})
        log.info("wrote %s", saved)
        return saved

    def _notes(self) -> dict[str, str | int | float | None]:
        notes: dict[str, str | int | float | None] = {"images": self.state.images, "data": self.data}
        return notes if self.state.projected is None else {**notes, "trained_with": "lite0"}

    def _save_or_rescue(self) -> None:
        if self.board is None:
            return
        for wait_s in (*_WAITS_S, None):
            try:
                self.last = self._save(False)
                return
            except InputError as error:
                if wait_s is None:
                    raise self._rescue(error) from None
                log.warning("%s; trying again in %.1f s", error.message, wait_s)
                time.sleep(wait_s)

    def _rescue(self, why: InputError) -> RunError:
        """Save as much as there is space for outside the run's folder, and return an error that says what and where.

        The whole state is tried first in every place, then the networks without optimisers, then only the averaged
        generator.
        """
        s, name = self.state, f"{self.run.resolve().name}-{self.state.images:09d}"
        cache = Path(os.environ.get("ALIS_CACHE", Path.home() / ".cache" / "alis"))
        places = [
            self.run / "rescued" / name,
            cache / "rescued" / name,
            Path(tempfile.gettempdir()) / "alis-rescued" / name,
        ]
        message = f"{self.run}: the state after {s.images} images is not saved: {why.message}"
        kinds: list[tuple[str, Callable[[Path], object], str]] = [
            (
                "all of it is",
                lambda place: state.save(s, place, notes=self._notes(), illustrate=lambda _: None),
                "free some space and continue: the same command with --resume {place} and a new --out",
            ),
            (
                "its networks, without optimisers, are",
                lambda place: models.save(place, s.ema, s.discriminator, trained=s.generator, notes=self._notes()),
                "--resume {place} starts from them",
            ),
            (
                "the averaged generator, which can paint but not be trained further, is",
                lambda place: models.save(place, s.ema, notes=self._notes()),
                "paint with {place}",
            ),
        ]
        for what, write, then in kinds:
            for place in places:
                is_new = not place.exists()
                try:
                    write(place)
                except (AlisError, OSError):
                    if is_new:
                        shutil.rmtree(place, ignore_errors=True)
                    continue
                return RunError(f"{message}; {what} in {place}", hint=then.format(place=place))
        last = f"the last snapshot is {self.last}" if self.last else "the run has no snapshot"
        tried = ", ".join(str(place) for place in places)
        return RunError(f"{message}, nor anywhere else ({tried}); {last}", hint="free some space and run it again")

    def _measure(self, is_measured: bool, is_saved: bool) -> None:
        if is_measured and self.measure is not None:
            try:
                name, value = self.measure(self.state.ema)
            except AlisError as error:
                log.warning("not measured after %d images: %s", self.state.images, error)
            else:
                self._note(name, value, is_saved)
        if self.board is not None:
            run_folder.prune(self.run, self.settings.keep)

    def _note(self, name: str, value: float, is_saved: bool) -> None:
        if self.board is None:
            return
        is_best = False
        try:
            is_best = is_saved and self.last is not None and run_folder.note_best(self.run, self.last.name, name, value)
        except OSError as error:
            log.warning("%s: best.json can't be written (%s)", self.run, error)
        log.info("%s %.3f%s", name, value, " (best so far)" if is_best else "")
        self.board.write({"images": self.state.images, "kimg": self.state.images / 1000, name: value})
