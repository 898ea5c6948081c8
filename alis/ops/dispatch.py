"""Which operations use the Triton kernels: those on CUDA tensors, if Triton is installed.

`use_triton(False)` uses the plain references for everything, for comparison or debugging.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings

from torch import Tensor

_wanted = True


def use_triton(wanted: bool) -> None:
    """Set whether operations on CUDA tensors use the Triton kernels (the default) or the references."""
    global _wanted
    _wanted = wanted


def uses_triton(x: Tensor) -> bool:
    """Whether operations on x use the Triton kernels."""
    return _wanted and x.is_cuda and _is_installed()


@functools.cache
def _is_installed() -> bool:
    found = importlib.util.find_spec("triton") is not None
    if not found:
        warnings.warn("triton is not installed: operations on the GPU run as plain PyTorch, slower", stacklevel=2)
    return found
