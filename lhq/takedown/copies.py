"""Photos taken down → the places that still hold a copy, and what to do about each."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.export import layout
from lhq.store import copies
from lhq.store.copies import Copy

_BESIDE = ("-zip", "-webdataset", ".old", ".part")


@dataclass(frozen=True, slots=True)
class Held:
    """A place that holds photos that were taken down (`num` of them; None where it can't be known), and the next
    move.
    """

    kind: str
    place: str
    num: int | None
    advice: str


def held(folder: str, target: str, ids: Collection[str], pipeline: str) -> list[Held]:
    """Every known place that still holds one of `ids`.

    Args:
        folder: the local folder of the store, where copies are noted.
        target: the folder that `lhq export` writes.
        pipeline: the pipeline file, as commands are to name it.
    """
    found: dict[tuple[str, str], Held] = {}
    for copy in [*copies.read(folder), *_usual(target)]:
        num = _num_held(copy, ids)
        if num != 0:
            found.setdefault((copy.kind, copy.place), Held(copy.kind, copy.place, num, _advice(copy, target, pipeline)))
    return list(found.values())


def _usual(target: str) -> Iterator[Copy]:
    """Where an unrecorded export (by an older version, or interrupted) would lie."""
    real = os.path.realpath(target)
    yield Copy("dataset", real)
    for copy in _BESIDE:
        yield Copy("archives" if copy.startswith("-") else "dataset", f"{real}{copy}")


def _num_held(copy: Copy, ids: Collection[str]) -> int | None:
    """How many of `ids` are there; 0 for a place that no longer exists, None where it holds pictures but does not say
    which.
    """
    if copy.kind == "repository":
        return None
    if not os.path.exists(copy.place):
        return 0
    try:
        table = pq.read_table(os.path.join(copy.place, layout.MANIFEST), columns=["id"])
    except (OSError, KeyError, pa.ArrowException):
        if copy.kind == "dataset" and not copy.place.endswith(".part"):
            return 0
        return None
    return int(pc.sum(pc.is_in(table["id"], pa.array(sorted(ids), pa.string()))).as_py() or 0)


def _advice(copy: Copy, target: str, pipeline: str) -> str:
    if copy.kind == "repository":
        return (
            f"lhq export {pipeline} --push-to-hub {copy.place} takes them out of its files; its history keeps them "
            "until it is squashed (HfApi().super_squash_history) and the old LFS files are deleted in its "
            "settings"
        )
    if copy.kind == "report":
        return f"lhq report {pipeline} -o {shlex.quote(copy.place)} draws it anew, or delete it"
    if copy.kind == "picture":
        return "delete it, if it shows one of them"
    dataset, ending = next(
        ((copy.place.removesuffix(one), one) for one in _BESIDE if copy.place.endswith(one)), (copy.place, "")
    )
    elsewhere = "" if os.path.realpath(dataset) == os.path.realpath(target) else f" --to {shlex.quote(dataset)}"
    export = f"lhq export {pipeline}{elsewhere}"
    if copy.kind == "archives":
        return f"{export} --format {ending.removeprefix('-')} writes them anew, or delete the folder"
    if ending:
        return f"left by an export that was cut short: {export} clears it"
    return f"{export} writes it without them"
