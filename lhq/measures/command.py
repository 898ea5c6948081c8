"""Photo → whatever a command of the user's says of it: captions, scores, tags, by a program that this project needs
not know.

Each worker starts the command once and keeps it running. For each photo it reads one line of JSON from its standard
input, and for each it writes one line of JSON to its standard output, in the same order; its standard error is shown.
It may read ahead: a batch of photos is written before the first answer is awaited. If it dies, it is restarted and
given the batch photo by photo; a photo that kills it by itself becomes a row with an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing.util
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pydantic

from lhq.errors import ImageError, RunError
from lhq.images import check_pixels
from lhq.measures import Measure, MeasureSettings, Verdicts
from lhq.records import Lane, Photo

Kind = Literal["string", "number", "integer", "boolean"]
_TYPES = {"string": pa.string(), "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}
_PAPERS = ("id", "width_px", "height_px", "orientation", "format", "licence", "title", "description", "tags")
_MOST_BYTES = 2**20  # of an answer
_MOST_WAITING = 1024  # answers that were read before somebody asked for them
_TAKEN = {"id", "error", "said"}
log = logging.getLogger("lhq")


class CommandSettings(MeasureSettings):
    """`[filter.command.NAME]`: `least` and `most` are thresholds; all other keys decide the facts."""

    judgement: ClassVar[frozenset[str]] = frozenset({"least", "most", "timeout_s", "lane"})

    run: tuple[str, ...] = pydantic.Field(min_length=1)
    """The command and its arguments."""
    columns: dict[str, Kind] = pydantic.Field(min_length=1)
    """Columns of each answer: name → `string`, `number`, `integer` or `boolean`."""
    input: Literal["path", "bytes"] = "path"
    """`path`: each line names a file with the photo as fetched. `bytes`: each line gives the number of bytes that
    follow it."""
    batch: int = pydantic.Field(32, ge=1, le=4096)
    """Photos given to it at a time."""
    lane: Lane = "cpu"
    """`gpu`: one process per GPU instead of one per core."""
    timeout_s: float = pydantic.Field(600.0, gt=0)
    """Longest wait for one answer before the command counts as dead."""
    version: int = 1
    """Raise it when the command changes, so that its facts are made again."""
    least: dict[str, float] = pydantic.Field(default_factory=dict)
    """Drop photos with a lower value in one of these columns."""
    most: dict[str, float] = pydantic.Field(default_factory=dict)
    """Drop photos with a higher value in one of these columns."""

    def own_columns(self) -> Sequence[str]:
        return tuple(self.columns)

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        for name in self.columns:
            if name in _TAKEN or not name.isidentifier():
                raise ValueError(f'columns: "{name}" is no name for a column (letters, digits and _; not {_TAKEN})')
        for name in [*self.least, *self.most]:
            if self.columns.get(name) not in {"number", "integer"}:
                raise ValueError(f'least, most: "{name}" is no number among columns')
        return self


class Command(Measure[CommandSettings]):
    """Facts: the command's answer for each photo, in the columns of its settings."""

    name = "command"
    settings_class = CommandSettings
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)])
    judged: Sequence[str] = ()
    is_apart = True

    def __init__(self, settings: CommandSettings, name: str = "command") -> None:
        self.settings, self.name = settings, name
        self.rows, self.lane, self.version = settings.batch, settings.lane, settings.version
        self.question = f"What does {Path(settings.run[0]).name} say of it?"
        fields = [pa.field(column, _TYPES[kind]) for column, kind in settings.columns.items()]
        said = [pa.field("error", pa.string()), pa.field("said", pa.string())]
        self.schema = pa.schema([pa.field("id", pa.string(), nullable=False), *said, *fields])
        self.judged = ["id", "error", *dict.fromkeys([*settings.least, *settings.most])]
        self._child: _Child | None = None
        self._has_answered, self._num_unanswered, self._ending = False, 0, ""

    def __reduce__(self) -> tuple[type[Command], tuple[CommandSettings, str]]:
        return Command, (self.settings, self.name)  # each worker starts the command itself

    def lacks(self) -> str:
        """The program, if it is missing on this machine."""
        from shutil import which

        program = self.settings.run[0]
        return "" if which(program) else f"{self.name}: no program {program}"

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """The command's answers for these photos.

        Raises:
            RunError: it can't be started, dies or hangs whatever it is asked, or its answers are not JSON or do not
                match `columns`.
        """
        refused = {photo.id: said for photo in photos if (said := _refusal(photo))}
        asked = [photo for photo in photos if photo.id not in refused]
        with tempfile.TemporaryDirectory(prefix="lhq-command-") as folder:
            answers = self._ask(asked, folder) if asked else []
            if answers is None:  # it died: try each photo alone to find the one that killed it
                answers = self._ask_each(asked, folder)
            self._has_answered |= bool(answers)
        told = {photo.id: self._row(photo, answer) for photo, answer in zip(asked, answers, strict=True)} | refused
        rows = [{"id": photo.id, **told[photo.id]} for photo in photos]
        return pa.RecordBatch.from_pylist(rows, self.schema)

    def judge(self, facts: pa.Table, settings: CommandSettings) -> Verdicts:
        """Keep photos within every limit; without limits keep all, whatever the answer."""
        kept, score = np.ones(len(facts), bool), np.full(len(facts), np.nan)
        details: dict[int, str] = {}
        for limits, is_beyond, word in ((settings.least, np.less, "below"), (settings.most, np.greater, "above")):
            for name, limit in limits.items():
                values = facts[name].cast(pa.float64()).to_numpy()
                with np.errstate(invalid="ignore"):
                    drops = kept & (is_beyond(values, limit) | np.isnan(values))
                score[drops] = values[drops]
                for row in np.flatnonzero(drops).tolist():
                    said = f"{name} {values[row]:g} is {word} {limit:g}"
                    details[row] = said if not np.isnan(values[row]) else f"{name} is not known"
                kept &= ~drops
        return Verdicts(self.name, facts["id"], kept, score, lambda row: details.get(row, ""))

    def _ask(self, photos: Sequence[Photo], folder: str) -> list[Mapping[str, Any]] | None:
        """One answer per photo; None if the command died meanwhile."""
        if self._child is None:
            self._child = _Child(self.settings, self.name)
        try:
            answers = self._child.ask([_request(photo, self.settings.input, folder) for photo in photos])
        except RunError:
            self._child = None  # it was ended
            raise
        if answers is None:
            self._ending = self._child.end()
            self._child = None
        return answers

    def _ask_each(self, photos: Sequence[Photo], folder: str) -> list[Mapping[str, Any]]:
        """One answer per photo, each asked alone.

        Raises:
            RunError: none of the first was ever answered: it is the command, not the photos.
        """
        answers: list[Mapping[str, Any]] = []
        for photo in photos:
            answers.append(self._ask_alone(photo, folder))
            self._has_answered |= answers[-1].get("error") != "crashed"
            self._num_unanswered += 1
            if not self._has_answered and self._num_unanswered >= min(_MOST_UNANSWERED, max(2, len(photos))):
                raise self._wrong(f"{self._ending} on each of the first {self._num_unanswered} photos")
        return answers

    def _ask_alone(self, photo: Photo, folder: str) -> Mapping[str, Any]:
        """The answer for one photo, or how the command ended on it. One that ended by itself (exit code 0) after the
        photo before it is started again."""
        is_fresh = self._child is None
        answers = self._ask([photo], folder)
        if answers is None and not is_fresh and self._ending == _ENDED:
            answers = self._ask([photo], folder)
        return answers[0] if answers else {"error": "crashed", "said": f"the command {self._ending} on it"}

    def _row(self, photo: Photo, answer: Mapping[str, Any]) -> dict[str, Any]:
        if answer.get("id", photo.id) != photo.id:
            raise self._wrong(f"answered for {answer['id']} when it was asked about {photo.id}")
        if answer.get("error"):
            return {"error": _text(answer["error"]), "said": _text(answer.get("said", ""))}
        if not answer.keys() & self.settings.columns.keys():
            named = ", ".join(self.settings.columns)
            raise self._wrong(f"answered {_short(answer)} for {photo.id}, with none of the columns ({named})")
        row = {name: answer.get(name) for name in self.settings.columns}
        row = {name: None if value != value else value for name, value in row.items()}  # NaN: not known
        for name, kind in self.settings.columns.items():
            value = row[name]
            if value is not None and not _is_of(value, kind):
                raise self._wrong(f"said {name} = {_short(value)} of {photo.id}, which is no {kind}")
            if kind == "number" and value is not None:
                row[name] = float(value)
        return row

    def _wrong(self, what: str) -> RunError:
        return RunError(f"[filter.command.{self.name}]: {self.settings.run[0]} {what}", hint="mend the command")


_ENDED = "ended (exit code 0)"
_MOST_UNANSWERED = 3


def _refusal(photo: Photo) -> dict[str, Any]:
    """The error of a photo with more pixels than the limit, which no command is asked about; empty for others."""
    try:
        check_pixels(photo.format, photo.width_px, photo.height_px)
    except ImageError as error:
        return {"error": error.reason, "said": error.message}
    return {}


def _is_of(value: object, kind: Kind) -> bool:
    """Whether a value is of a column's kind and can be stored."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "string":
        return isinstance(value, str) and not _SURROGATES.search(value)
    if kind == "integer":
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return kind == "number" and isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of a character, which no UTF-8 can hold


def _text(value: object) -> str:
    return _SURROGATES.sub("\ufffd", str(value))


def _short(value: object) -> str:
    said = ascii(value)
    return said if len(said) <= 80 else f"{said[:80]}…"


def _request(photo: Photo, how: str, folder: str) -> tuple[bytes, bytes]:
    """The line about a photo, and what follows it."""
    line: dict[str, Any] = {name: getattr(photo, name) for name in _PAPERS}
    if how == "bytes":
        return json.dumps({**line, "bytes": len(photo.data)}).encode() + b"\n", photo.data
    path = os.path.join(folder, f"{len(os.listdir(folder)):06d}.{'jpg' if photo.format == 'jpeg' else photo.format}")
    with open(path, "wb") as file:
        file.write(photo.data)
    return json.dumps({**line, "path": path}).encode() + b"\n", b""


class _Child:
    """The running command. A thread reads its answers, since it may fill one pipe while we fill the other."""

    def __init__(self, settings: CommandSettings, name: str) -> None:
        self._settings, self._name = settings, name
        try:
            self._process = subprocess.Popen(settings.run, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise RunError(
                f"[filter.command.{name}]: {settings.run[0]} can't be started ({error})", hint="check its path"
            ) from error
        self._is_silent = False
        multiprocessing.util.Finalize(self, self._process.kill, exitpriority=0)  # it may not look at its input's end
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_WAITING)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_MOST_BYTES):
            self._lines.put(line)
        self._lines.put(b"")

    def _write(self, requests: Sequence[tuple[bytes, bytes]]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it died: the missing answer says so
            for request in requests:
                self._process.stdin.writelines(request)
            self._process.stdin.flush()

    def ask(self, requests: Sequence[tuple[bytes, bytes]]) -> list[Mapping[str, Any]] | None:
        """An answer each, or None where it died or took too long.

        Raises:
            RunError: it wrote what is no answer, or answers that nobody asked for.
        """
        if self._is_ahead():
            raise self._ended("wrote more answers than it was asked for")
        writer = threading.Thread(target=self._write, args=(requests,), daemon=True)
        writer.start()
        answers: list[Mapping[str, Any]] = []
        while len(answers) < len(requests):
            line = self._next_line()
            if line is None:
                self._is_silent = True
                return None
            if not line:
                return None
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                answer = None
            if not isinstance(answer, dict):
                long = f" in a line of {_MOST_BYTES:,} bytes" if len(line) == _MOST_BYTES else ""
                raise self._ended(f"wrote {line[:80]!r}{long}, which is no JSON object")
            answers.append(answer)
        writer.join()
        time.sleep(_A_MOMENT_S)  # for the thread that reads, to take in what is written already
        if self._is_ahead():
            raise self._ended("wrote more answers than it was asked for")
        return answers

    def _next_line(self) -> bytes | None:
        """What it writes next, b"" at its end; None where it took too long."""
        limit_s = self._settings.timeout_s
        soon_s = min(_LONG_S, limit_s)
        with contextlib.suppress(queue.Empty):
            return self._lines.get(timeout=soon_s)
        if limit_s > soon_s:
            log.warning(
                "[filter.command.%s]: no answer for %g s; waiting for %g (timeout_s). It has to answer each line as it "
                "comes, and to flush",
                self._name,
                soon_s,
                limit_s,
            )
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=limit_s - soon_s)
        return None

    def _is_ahead(self) -> bool:
        """Whether it has said more than it was asked for, as far as that was read; the mark of its end is nothing."""
        waiting = self._lines.queue
        return bool(waiting and waiting[0])

    def _ended(self, what: str) -> RunError:
        self.end()
        return RunError(
            f"[filter.command.{self._name}]: {self._settings.run[0]} {what}",
            hint="let it write one JSON object a photo to standard output, and all else to standard error",
        )

    def end(self) -> str:
        """Kill it, unless it has died; returns what it did, in words."""
        if self._is_silent:
            said = f"gave no answer in {self._settings.timeout_s:g} s"
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS_S)  # its output has ended; so will it
            code = self._process.poll()
            said = _ENDED if code == 0 else "closed its output" if code is None else f"died ({_how(code)})"
        self._process.kill()
        self._process.wait()
        return said


_LONG_S = 60.0  # without an answer before that is said
_LAST_WORDS_S = 1.0
_A_MOMENT_S = 0.002


def _how(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
