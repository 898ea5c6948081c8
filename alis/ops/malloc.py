"""Make glibc keep freed memory: on the CPU, page faults on fresh memory cost as much as the convolutions.

glibc returns blocks of 32 MB and more to the kernel as soon as they are freed, and every feature map above 512 rows is
one. Measured on one core, 32 channels of 1024×512 in float32: a convolution takes 0.16 s on fresh pages, 0.10 s on kept
ones; a product with column styles 0.023 s and 0.005 s. A strip 1024 rows high needs more than 2 GB at times: when
memory beyond that was returned, each of its blocks touched half a million fresh pages, a tenth of its time.
Its widest layer alone needs 0.6 GB a thread at once: with two threads, 140,000 fresh pages a block at a limit of 1 GB.
The price: memory that the process has once used stays with it until it ends. `ALIS_KEEP_PAGES=0` in the environment
turns this off; it has no effect with other C libraries than glibc.
"""

from __future__ import annotations

import ctypes
import functools
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc, once per process, to keep freed memory for large blocks; return whether it will."""
    if os.environ.get("ALIS_KEEP_PAGES", "1") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # A trim threshold of -1 means never; any other value is an int, so at most 2 GB. One arena: those of other threads
    # can't hold blocks of 64 MB.
    options = ((_MMAP_THRESHOLD, (1 << 31) - 1), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))
    return all(mallopt(name, value) == 1 for name, value in options)
