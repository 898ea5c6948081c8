"""Simulate a full disk."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

from lhq.processes import start_fork_server


@contextlib.contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """Inside the block, writing a file beyond this size fails (EFBIG), as on a full disk."""
    start_fork_server("lhq.processes")  # started inside, it and all its processes would keep the limit for ever
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
