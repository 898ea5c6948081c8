"""Which tensors go to the Triton kernels: those on a CUDA device, where Triton is installed.

`use_triton(False)` sends everything to the plain references, to compare or to look for a fault.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings

from torch import Tensor

_wanted = True


def use_triton(wanted: bool) -> None:
    """Whether CUDA tensors go to the Triton kernels from now on (the default) or to the references."""
    global _wanted
    _wanted = wanted


def uses_triton(x: Tensor) -> bool:
    """Whether an operation on x is done by Triton."""
    return _wanted and x.is_cuda and _is_installed()


@functools.cache
def _is_installed() -> bool:
    found = importlib.util.find_spec("triton") is not None
    if not found:
        warnings.warn("triton is not installed: operations on the GPU run as plain PyTorch, slower", stacklevel=2)
    return found
