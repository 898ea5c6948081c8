"""Which rows are being decoded, noted in a file that outlives the process: the next start finds the one that killed it.

Each loader has a file of its own, locked while it lives, with the last rows of each decoding thread: one short write
for eight pictures. Not a memory map, because a store to one may end the process where the disk is full. More rows than
the current ones are kept, because a decoder may damage the heap and leave the crash to a later picture.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhq import system

log = logging.getLogger("alis")
Key = tuple[int, int]
"""(row group, row of the group)."""
Note = Callable[[Sequence[Key]], None]
ROWS_A_NOTE = 8
_PREFIX = ".decoding-"
_REGION_BYTES = 2 * ROWS_A_NOTE * 16  # of a thread: the rows of its last two notes, two int64 a row
_UNUSED = -1


@dataclass(frozen=True)
class Crash:
    """A picture that kills the process that decodes it: its name, and how that process ended."""

    name: str
    how: str


@dataclass(frozen=True)
class Crashes:
    """The rows of a dataset that kill their decoder, and the folder where rows are noted while they are decoded."""

    folder: Path
    rows: Mapping[Key, Crash]


class DecodeNotes:
    """The notes of one loader; where they can't be written, pictures are decoded without, after one warning.

    Args:
        folder: where its file is made; None: nothing is noted.
        fingerprint: of the dataset.
        threads: number of decoding threads.
    """

    def __init__(self, folder: Path | None, fingerprint: str, threads: int) -> None:
        header, unused = fingerprint.encode() + b"\n", np.full(_REGION_BYTES // 8, _UNUSED, "<i8").tobytes()
        self._regions: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()  # (place in the file, what it says)
        for number in range(threads):
            self._regions.put((len(header) + number * _REGION_BYTES, unused))
        self._file, self._path, self._is_noting = -1, Path(), folder is not None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
                self._path = Path(name)
                with contextlib.suppress(OSError):  # where there are no locks, its rows may be tried once too often
                    system.lock(self._file)
                os.write(self._file, header + unused * threads)
            except OSError as error:
                self._give_up(folder, error)

    @contextlib.contextmanager
    def of_thread(self) -> Iterator[Note]:
        """A function that notes the rows that the calling thread decodes next, at most `ROWS_A_NOTE`."""
        place, said = self._regions.get_nowait()

        def note(keys: Sequence[Key]) -> None:
            nonlocal said
            if self._is_noting:
                said = (said + np.array(keys, "<i8").tobytes())[-_REGION_BYTES:]
                try:
                    system.write_at(self._file, said, place)
                except OSError as error:
                    self._give_up(self._path, error)

        try:
            yield note
        finally:
            self._regions.put((place, said))

    def close(self, *, is_idle: bool) -> None:
        """Remove the notes; where a thread still decodes, they are left to the next start, locked until the end."""
        if self._file >= 0 and is_idle:
            os.close(self._file)
            self._file, self._is_noting = -1, False
            self._path.unlink(missing_ok=True)

    def _give_up(self, where: Path, error: OSError) -> None:
        if self._is_noting:
            self._is_noting = False  # the file stays open: another thread may be writing
            log.warning(
                "%s: can't be written (%s): pictures that kill their decoder won't be found", where, error.strerror
            )


@contextlib.contextmanager
def left_behind(folder: Path, fingerprint: str) -> Iterator[list[Key]]:
    """The rows that processes noted there before they were killed; their notes are removed when the block ends well."""
    with contextlib.ExitStack() as stack:
        found: dict[Key, None] = {}
        ended = []
        for path in sorted(folder.glob(f"{_PREFIX}*")):
            try:
                file = stack.enter_context(path.open("rb"))
            except OSError:
                continue
            said, _, regions = file.read().partition(b"\n")
            if said == fingerprint.encode() and not _is_in_use(file.fileno()):
                ended.append(path)
                pairs = np.frombuffer(regions[: len(regions) // 16 * 16], "<i8").reshape(-1, 2).tolist()
                found |= {(group, row): None for group, row in pairs if group != _UNUSED}
        yield list(found)
        for path in ended:
            with contextlib.suppress(OSError):  # in a folder that can't be written, they are tried again
                path.unlink()


def _is_in_use(file: int) -> bool:
    """Whether the process that writes a file of notes is alive; if not, the file is locked for this one."""
    try:
        system.lock(file)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here: trying rows of a living process does no harm
    return False
