"""Dataset → the same dataset with the rows that kill their decoder named, to be left out as bad rows are.

A decoder that dies takes its process along, and the same command would meet the same picture again. So every start
first tries the rows that an earlier one was decoding when it was killed (`alis.data.decode_notes`), each in a process
of its own. A row that kills that process too is added to `crashed.jsonl` in the same folder; delete its line to have
the row tried again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alis import dist
from alis.data.catalogue import Catalogue
from alis.data.decode import try_to_decode
from alis.data.decode_notes import Crash, Crashes, Key, left_behind
from alis.data.encoded_rows import EncodedRows
from alis.data.fingerprint import cache_folder
from alis.data.order import Pool
from alis.errors import RunError
from lhq import checked_json
from lhq.errors import LhqError
from lhq.images import max_pixels_limit
from lhq.processes import Died, HelperProcess

log = logging.getLogger("alis")
CRASHED = "crashed.jsonl"


def guarded(catalogue: Catalogue, resolution: int, folder: Path | None = None) -> Catalogue:
    """The dataset as loaders should read it: without the rows that killed an earlier process, noting which they decode.

    Must be called by every process. The first of each host tries the rows; all leave out what any host has found.

    Args:
        resolution: that pictures are decoded to.
        folder: of the notes, a run's; None: `decoding` in the cache.

    Raises:
        RunError: no process can be started to try rows in.
    """
    place = folder or cache_folder() / "decoding"
    found = dist.run_on_all(lambda: _known(catalogue, resolution, place) if dist.is_first_of_host() else {})
    rows: dict[Key, Crash] = {}
    for part in dist.all_gather_objects(found):
        rows |= part
    if dist.is_first_of_host():
        _add(place, catalogue.fingerprint, {key: crash for key, crash in rows.items() if key not in found})
    return replace(catalogue, crashes=Crashes(place, rows))


def _known(catalogue: Catalogue, resolution: int, folder: Path) -> dict[Key, Crash]:
    """The rows listed in a folder, and those that turn out to kill their decoder now."""
    known = _listed(folder, catalogue.fingerprint)
    with left_behind(folder, catalogue.fingerprint) as left:
        tried = [key for key in left if key not in known]
        found = {}
        for key, name, data in _pictures(catalogue, tried):
            how = _how_it_kills(data, resolution)
            if how:
                found[key] = Crash(name, how)
                log.warning(
                    "the last start ended while %s was decoded: it kills its decoder (%s), and is left out "
                    "from now on; %s lists it",
                    name,
                    how,
                    folder / CRASHED,
                )
                _add(folder, catalogue.fingerprint, {key: found[key]})
        if tried and not found:
            log.info("the last start was killed, but by none of the %d pictures that it decoded last", len(tried))
    return known | found


def _pictures(catalogue: Catalogue, keys: Sequence[Key]) -> Iterator[tuple[Key, str, bytes]]:
    """(key, name, bytes) of rows that can be read."""
    for group in sorted({group for group, _ in keys if 0 <= group < len(catalogue.group_rows)}):
        try:
            values = catalogue.rows(group)
        except Exception as error:  # each remote filesystem has its own exception classes; the loader tells it
            if isinstance(error, MemoryError):
                raise
            continue
        for row in sorted(row for of, row in keys if of == group and 0 <= row < len(values)):
            one = EncodedRows(Pool(((group, row, row + 1),), 1, (0,)), [(group, row, values.slice(row, 1))])
            data, key = one.at(0)
            if data is not None:
                yield key, one.name(0, catalogue), bytes(data)


def _how_it_kills(data: bytes, resolution: int) -> str:
    """How a picture ends the process that decodes it; "" if it doesn't. One process each, so that none is blamed for
    the heap that another damaged."""
    try:
        with HelperProcess(try_to_decode) as helper:
            ended = helper(data, resolution, max_pixels_limit())
    except LhqError as error:
        raise RunError(error.message, hint=error.hint) from None
    return ended.how if isinstance(ended, Died) else ""


def _listed(folder: Path, fingerprint: str) -> dict[Key, Crash]:
    """The rows in a folder's list that are of this dataset; a line that a power cut left incomplete counts as none."""
    try:
        lines = (folder / CRASHED).read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        hint = "correct its permissions: it lists the pictures that kill their decoder"
        raise RunError(f"{folder / CRASHED}: can't be read ({error.strerror})", hint=hint) from None
    found = {}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            said = checked_json.opened(json.loads(line))
            if said["data"] == fingerprint:
                found[int(said["group"]), int(said["row"])] = Crash(str(said["name"]), str(said["how"]))
    return found


def _add(folder: Path, fingerprint: str, crashes: Mapping[Key, Crash]) -> None:
    """Add rows to a folder's list, each by one write and on a line of its own, also after one that was cut short."""
    for (group, row), crash in crashes.items():
        line = checked_json.sealed(
            {"data": fingerprint, "group": group, "row": row, "name": crash.name, "how": crash.how}
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / CRASHED).open("a+b", buffering=0) as file:
                file.seek(max(file.tell() - 1, 0))
                is_cut = file.read(1) not in (b"", b"\n")
                file.write(b"\n" * is_cut + json.dumps(line).encode() + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            log.warning("%s: can't be written (%s): that picture will be found anew", folder / CRASHED, error.strerror)
