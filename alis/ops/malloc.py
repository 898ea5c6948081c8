"""Freed memory stays with the process: on the CPU, touching fresh pages costs as much as the convolutions.

glibc gives blocks of 32 MB and more back to the kernel as soon as they are freed, and every feature map above
512 rows is one. Measured on one core, 32 channels of 1024×512 in float32: convolution 0.16 s on fresh pages,
0.10 s on kept ones; product with a column's styles 0.023 s and 0.005 s. A strip 1024 rows high holds more than 2 GB at
times: given back beyond that, half a million pages were touched anew in each of its blocks, a tenth of their time.
The price: what the process once used it keeps until it ends. `ALIS_KEEP_PAGES=0` in the environment turns it off;
other C libraries than glibc are left alone.
"""

from __future__ import annotations

import ctypes
import functools
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


@functools.cache
def keep_freed_memory() -> bool:
    """Ask glibc, once, to serve large blocks from memory that it keeps; True if it will."""
    if os.environ.get("ALIS_KEEP_PAGES", "1") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # A threshold of -1 is never reached; any other ends at 2 GB. One arena, as further threads' hold no block of 64 MB.
    wishes = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))
    return all(mallopt(name, value) == 1 for name, value in wishes)
