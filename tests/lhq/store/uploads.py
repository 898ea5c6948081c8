"""What every bucket must do, whoever keeps it."""

from __future__ import annotations

from typing import IO

import fsspec
import pytest

from lhq.store.shards import write_whole


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
        write_whole(fs, path, cut)
    fs.invalidate_cache()
    assert not fs.exists(path)
    write_whole(fs, path, lambda sink: sink.write(b"whole"))
    with pytest.raises(KeyboardInterrupt):
        write_whole(fs, path, cut)
    assert fs.cat(path) == b"whole"
