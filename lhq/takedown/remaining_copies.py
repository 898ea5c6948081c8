"""Photos taken down → known places that still hold a copy, and how to remove each."""

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

_SUFFIXES = ("-zip", "-webdataset", ".old", ".part")


@dataclass(frozen=True, slots=True)
class RemainingCopy:
    """A place that still holds `num` of the removed photos (None: unknown), and what to do about it."""

    kind: str
    place: str
    num: int | None
    advice: str


def remaining_copies(folder: str, target: str, ids: Collection[str], pipeline: str) -> list[RemainingCopy]:
    """Every known place that still holds one of `ids`.

    Args:
        folder: the local folder of the store, where copies are recorded.
        target: the folder that `lhq export` writes.
        pipeline: the pipeline file's path, for the commands in `advice`.
    """
    remaining: dict[tuple[str, str], RemainingCopy] = {}
    for copy in [*copies.read(folder), *_unrecorded_exports(target)]:
        num = _count_copies(copy, ids)
        if num != 0:
            remaining.setdefault(
                (copy.kind, copy.place), RemainingCopy(copy.kind, copy.place, num, _advice(copy, target, pipeline))
            )
    return list(remaining.values())


def _unrecorded_exports(target: str) -> Iterator[Copy]:
    """Places of exports that may be unrecorded: interrupted, or by older versions."""
    real = os.path.realpath(target)
    yield Copy("dataset", real)
    for copy in _SUFFIXES:
        yield Copy("archives" if copy.startswith("-") else "dataset", f"{real}{copy}")


def _count_copies(copy: Copy, ids: Collection[str]) -> int | None:
    """How many of `ids` the copy holds: 0 if it no longer exists, None if it doesn't list its photos."""
    if copy.kind == "repository":
        return None
    if not os.path.exists(copy.place):
        return 0
    try:
        table = pq.read_table(os.path.join(copy.place, layout.MANIFEST), columns=["id"])
    except FileNotFoundError:
        return 0 if copy.kind == "dataset" and not copy.place.endswith(".part") else None
    except (OSError, KeyError, pa.ArrowException):
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
    dataset, used_suffix = next(
        ((copy.place.removesuffix(suffix), suffix) for suffix in _SUFFIXES if copy.place.endswith(suffix)),
        (copy.place, ""),
    )
    target_option = "" if os.path.realpath(dataset) == os.path.realpath(target) else f" --to {shlex.quote(dataset)}"
    export = f"lhq export {pipeline}{target_option}"
    if copy.kind == "archives":
        return f"{export} --format {used_suffix.removeprefix('-')} writes them anew, or delete the folder"
    if used_suffix:
        return f"left by an export that was cut short: {export} clears it"
    return f"{export} writes it without them"
