"""What every bucket must do, whoever keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import fsspec
import pyarrow as pa
import pytest

from lhq.errors import StoreError
from lhq.store.atomic_file import write_atomically
from lhq.store.lock import locked
from lhq.store.shards import Shards
from tests.lhq.spoilt_bucket import Between, Fault


def table() -> pa.Table:
    return pa.table({"id": [str(n) for n in range(5000)], "error": [None] * 5000})


def reads_survive_a_corrupted_answer(
    store: str, spoilt: Between, fault: Fault, *, counts: Callable[[str], bool] = lambda path: True
) -> None:
    """Lists, shards and their batches are read whole though answers come wrong.

    Args:
        store: the address of an empty one, behind `spoilt`.
        counts: the paths of which every second answer is wrong at the end.
    """
    facts = Shards(store, "facts/size")
    facts.write(0, table())
    first = spoilt.asked.get("GET", -1) + 1
    spoilt.spoil = lambda method, path, number: fault if method == "GET" and number < first + 2 else None
    assert facts.numbers() == [0]
    assert facts.read(0).equals(table())
    assert len(spoilt.spoilt) == 2
    spoilt.spoil = lambda method, path, number: fault if counts(path) and number % 2 else None
    assert facts.read(0).equals(table())
    assert pa.Table.from_batches(list(facts.batches(0, rows=500))).equals(table())


def a_cut_upload_leaves_what_was_there(address: str, size_bytes: int) -> None:
    """A write that is interrupted leaves nothing where nothing was, and the whole file where one was.

    Args:
        address: of a file that is not there yet.
        size_bytes: of what is written before the interruption.
    """
    fs, path = fsspec.core.url_to_fs(address)

    def cut(sink: IO[bytes]) -> None:
        sink.write(b"x" * size_bytes)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(fs, path, cut)
    fs.invalidate_cache()
    assert not fs.exists(path)
    write_atomically(fs, path, lambda sink: sink.write(b"whole"))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(fs, path, cut)
    assert fs.cat(path) == b"whole"


def one_worker_a_store(store: str) -> None:
    """A second filter is refused while one is at work, and let in when that has ended."""
    with locked(store, "filter"):
        with pytest.raises(StoreError, match="another filter is at work here"):
            locked(store, "filter").__enter__()
    with locked(store, "filter"):
        pass
