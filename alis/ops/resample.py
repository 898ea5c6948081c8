"""The [1, 3, 3, 1] low-pass filter of StyleGAN2: alone, before down-sampling, and after up-sampling.

Zero padding makes a patch independent of its neighbours.
Source: arXiv 1912.04958, appendix B.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

from alis.ops.dispatch import uses_triton
from alis.ops.layout import conv2d

TAPS = (0.125, 0.375, 0.375, 0.125)


def up2(x_BCHW: Tensor) -> Tensor:
    """Double height and width: insert zeros, then filter with gain 4."""
    if uses_triton(x_BCHW):
        from alis.ops.resample_triton import up2_triton

        return up2_triton(x_BCHW)
    return up2_reference(x_BCHW)


def down2(x_BCHW: Tensor) -> Tensor:
    """Halve height and width (both even): filter, then take every second sample."""
    if uses_triton(x_BCHW):
        from alis.ops.resample_triton import down2_triton

        return down2_triton(x_BCHW)
    return down2_reference(x_BCHW)


def blur(x_BCHW: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """Filter with `pad` zeros (1 or 2) on each side: height and width grow by 2·pad − 3."""
    if uses_triton(x_BCHW):
        from alis.ops.resample_triton import blur_triton

        return blur_triton(x_BCHW, pad, gain)
    return blur_reference(x_BCHW, pad, gain)


def up2_reference(x_BCHW: Tensor) -> Tensor:
    """`up2` in plain PyTorch."""
    for dim in (2, 3):
        size = x_BCHW.shape[dim]
        wide = _pad(x_BCHW, dim, 1)
        before, here, after = (wide.narrow(dim, k, size) for k in range(3))
        pair = torch.stack([before * 0.25 + here * 0.75, here * 0.75 + after * 0.25], dim=dim + 1)
        x_BCHW = pair.flatten(dim, dim + 1)
    return x_BCHW


def down2_reference(x_BCHW: Tensor) -> Tensor:
    """`down2` in plain PyTorch."""
    return _filter(x_BCHW, 1, 1.0, stride=2)


def blur_reference(x_BCHW: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """`blur` in plain PyTorch."""
    return _filter(x_BCHW, pad, gain, stride=1)


def _filter(x_BCHW: Tensor, pad: int, gain: float, stride: int) -> Tensor:
    """Convolve each channel with the 4×4 filter."""
    num = x_BCHW.shape[1]
    # An exported graph gets its own kernel: the tracer's placeholder must not get into the cache.
    kernel = _kernel.__wrapped__ if torch.compiler.is_exporting() else _kernel
    weight = kernel(x_BCHW.dtype, x_BCHW.device, gain).expand(num, 1, 4, 4)
    return conv2d(x_BCHW, weight, padding=pad, stride=stride, groups=num)


@functools.cache
def _kernel(dtype: torch.dtype, device: torch.device, gain: float) -> Tensor:
    """The filter's 4×4 weights, cached: they are copied to the device only once."""
    # The cache outlives this call: an inference tensor could not be used with gradients later.
    with torch.inference_mode(False), torch.no_grad():
        taps = torch.tensor(TAPS, dtype=dtype, device=device)
        return taps[:, None] * taps * gain


def _pad(x: Tensor, dim: int, pad: int) -> Tensor:
    return functional.pad(x, [pad, pad] if dim == 3 else [0, 0, pad, pad])
