"""Triton kernels on the CPU, by Triton's interpreter: test_ops.py runs this with TRITON_INTERPRET=1.

Forward, gradient and second gradient against the references in float64; float32, float16, bfloat16; odd shapes,
views, channels last; tiles smaller than the map, so that edges of tiles are met too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

assert os.environ.get("TRITON_INTERPRET") == "1", "run this file by tests/alis/ops/test_ops.py"

from alis.ops import resample, tiles  # noqa: E402
from alis.ops.align import align_reference  # noqa: E402
from alis.ops.align_triton import align_triton  # noqa: E402
from alis.ops.bias_act import GAIN, SLOPE, bias_act_reference  # noqa: E402
from alis.ops.bias_act_triton import bias_act_triton, bias_act_triton_  # noqa: E402
from alis.ops.resample_triton import blur_triton, down2_triton, up2_triton  # noqa: E402

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SHAPES = {2048: [(2, 2, 4, 6), (1, 1, 7, 3)], 32: [(1, 1, 4, 10)]}
# Dtype, memory format and tile size: each value is tested with every op; small tiles test the edges of tiles.
CASES = [
    (torch.float64, "rows last", 2048),
    (torch.float32, "rows last", 32),
    (torch.float32, "channels last", 32),
    (torch.float16, "view", 2048),
    (torch.bfloat16, "channels last", 2048),
]


def make(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).to(dtype)


def stored(x: Tensor, how: str) -> Tensor:
    """The same numbers in another memory format."""
    if how == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if how == "view":
        wide = torch.zeros(*x.shape[:3], x.shape[3] * 2 + 1, dtype=x.dtype)[:, :, :, 1::2]
        return wide.copy_(x)
    return x.contiguous()


def agree(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    error = (found.double() - wanted.double()).abs().max() if wanted.numel() else torch.zeros([])
    assert error <= TOLERANCE[dtype] * max(float(wanted.abs().max()) if wanted.numel() else 0, 1), float(error)


OPS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "align": (align_triton, align_reference),
    "bias_act": (
        lambda x, b, n: bias_act_triton(x, b, n, slope=0.2, gain=1.5, clamp=2.0),
        lambda x, b, n: bias_act_reference(x, b, n, slope=0.2, gain=1.5, clamp=2.0),
    ),
    "bias alone": (
        lambda x, b: bias_act_triton(x, b, None, slope=1.0, gain=1.0, clamp=None),
        lambda x, b: bias_act_reference(x, b, None, slope=1.0, gain=1.0, clamp=None),
    ),
    "up2": (up2_triton, resample.up2_reference),
    "down2": (down2_triton, resample.down2_reference),
    "blur 1": (lambda x: blur_triton(x, 1, 4.0), lambda x: resample.blur_reference(x, 1, 4.0)),
    "blur 2": (lambda x: blur_triton(x, 2, 1.0), lambda x: resample.blur_reference(x, 2, 1.0)),
}


def arguments(op: str, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    batch, channels, height, width = shape
    x = make(*shape, dtype=dtype)
    if op == "align":
        return [x, make(batch, 3, channels, dtype=dtype), torch.rand(batch, 3, width, dtype=torch.float64)]
    if op == "bias_act":
        return [x, make(channels, dtype=dtype), make(batch, 1, height, width, dtype=dtype)]
    return [x, make(channels, dtype=dtype)] if op == "bias alone" else [x]


def fits(op: str, shape: tuple[int, ...]) -> bool:
    height, width = shape[2:]
    if op == "down2":
        return height % 2 == 0 and width % 2 == 0
    return op != "blur 1" or min(height, width) > 1


@pytest.mark.parametrize(("dtype", "layout", "tile"), CASES)
@pytest.mark.parametrize("op", OPS)
def test_forward_and_gradients_are_those_of_the_reference(
    op: str, dtype: torch.dtype, layout: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE", tile)
    torch.manual_seed(0)
    kernel, reference = OPS[op]
    for shape in [shape for shape in SHAPES[tile] if fits(op, shape)]:
        values = arguments(op, shape, dtype)
        ours = [stored(values[0], layout), *values[1:]]
        theirs = [value.double() for value in values]
        live = [k for k in range(len(values)) if not (op == "align" and k == 2)]
        for k in live:
            ours[k], theirs[k] = ours[k].detach().requires_grad_(), theirs[k].requires_grad_()
        y, wanted = kernel(*ours), reference(*theirs)
        agree(y.detach(), wanted.detach(), dtype)
        weight = make(*y.shape)
        found = torch.autograd.grad((y.double() * weight).sum(), [ours[k] for k in live])
        grads = torch.autograd.grad((wanted * weight).sum(), [theirs[k] for k in live])
        for one, other in zip(found, grads, strict=True):
            agree(one, other, dtype)


@pytest.mark.parametrize("op", ["align", "bias_act", "up2", "down2"])
def test_first_and_second_derivatives_by_differences(op: str) -> None:
    torch.manual_seed(1)
    shape = (1, 1, 4, 2)
    values = arguments(op, shape, torch.float64)
    fixed = values[2:] if op == "align" else []
    live = [value.requires_grad_() for value in (values[:2] if op == "align" else values)]

    def run(*inputs: Tensor) -> Tensor:
        return OPS[op][0](*inputs, *fixed)

    assert torch.autograd.gradcheck(run, live, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, live, fast_mode=True)


def test_results_keep_their_layout_and_may_be_written_elsewhere() -> None:
    x, styles, shares = arguments("align", (2, 3, 4, 6), torch.float32)
    x = x.contiguous(memory_format=torch.channels_last)
    assert align_triton(x, styles, shares).is_contiguous(memory_format=torch.channels_last)
    room = torch.zeros(2, 5, 4, 6).contiguous(memory_format=torch.channels_last)
    align_triton(x, styles, shares, out=room[:, 1:4])
    agree(room[:, 1:4], align_reference(x, styles, shares), torch.float32)
    assert room[:, 0].eq(0).all()
    assert room[:, 4].eq(0).all()


def test_flat_input_and_overwriting() -> None:
    x, bias = make(5, 7, dtype=torch.float32), make(7, dtype=torch.float32)
    wanted = bias_act_reference(x, bias, clamp=1.0)
    how = {"slope": SLOPE, "gain": GAIN, "clamp": 1.0}
    agree(bias_act_triton(x, bias, None, **how), wanted, torch.float32)
    square = x[:, :, None, None].clone()
    assert bias_act_triton_(square, bias, None, **how).data_ptr() == square.data_ptr()
    agree(square[:, :, 0, 0], wanted, torch.float32)


def test_many_codes_stay_within_the_grid_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches of more than 65,535 programs in the second or third dimension fail on a device, and only there."""
    walks = []
    real = tiles.walk
    monkeypatch.setattr(tiles, "walk", lambda x: walks.append(real(x)) or walks[-1])
    x, bias = make(70_000, 3, dtype=torch.float32).requires_grad_(), make(3, dtype=torch.float32)
    y = bias_act_triton(x, bias, None, slope=SLOPE, gain=GAIN, clamp=None)
    (found,) = torch.autograd.grad(y.sum(), x)
    agree(y.detach(), bias_act_reference(x, bias).detach(), torch.float32)
    assert found.shape == x.shape
    assert len(walks) == 2
    assert all(max(way.grid[1:]) <= 65_535 for way in walks)


def test_kernels_start_on_the_device_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Tensor] = []

    class Device(torch.cuda.device_of):
        def __init__(self, x: Tensor) -> None:
            super().__init__(x)
            entered.append(x)

    monkeypatch.setattr(torch.cuda, "device_of", Device)
    for op in OPS:
        values = [value.requires_grad_() for value in arguments(op, (1, 1, 4, 4), torch.float32)]
        y = OPS[op][0](*values)
        assert len(entered) == 1, op
        torch.autograd.grad(y.sum(), values[:2])
        assert len(entered) > 1, op
        entered.clear()
