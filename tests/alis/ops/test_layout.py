"""Maps stored column after column: every operation gives what it gives for any other layout, and keeps the layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alis import ops
from alis.ops import layout

SIZE = (2, 6, 5, 9)
Operation = Callable[[Tensor], Tensor]


def material(dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(SIZE, dtype=dtype)


def styled(op: Callable[..., Tensor], x: Tensor, *more: object) -> Tensor:
    made = torch.Generator().manual_seed(1)
    styles = torch.randn(2, 3, 6, dtype=x.dtype, generator=made)
    shares = torch.rand(2, 3, 9, dtype=x.dtype, generator=made)
    return op(x, styles, shares, *more)


def weight(*size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def activated(x: Tensor) -> Tensor:
    made = torch.Generator().manual_seed(3)
    bias = torch.randn(x.shape[1], dtype=x.dtype, generator=made)
    noise = torch.randn(1, 1, *x.shape[2:], dtype=x.dtype, generator=made)
    copy = x.clone(memory_format=torch.preserve_format)
    return ops.bias_act_(copy, bias, noise, clamp=1.0)


OPERATIONS: dict[str, Operation] = {
    "align": lambda x: styled(ops.align, x),
    "stack": lambda x: styled(ops.stack, x),
    "stack with further channels": lambda x: styled(ops.stack, x, x[:, :4] * 2),
    "bias_act_": activated,
    "blur": lambda x: ops.blur(x, 1),
    "conv2d": lambda x: layout.conv2d(x, weight(4, 6, 3, 3), padding=(1, 0)),
    "conv_transpose2d": lambda x: layout.conv_transpose2d(x, weight(6, 4, 3, 3), stride=2, padding=(1, 0)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_the_same_by_column_and_keep_the_layout(name: str) -> None:
    x, run = material(), OPERATIONS[name]
    by_column = layout.column_major(x)
    assert layout.is_column_major(by_column)
    assert torch.equal(by_column, x)
    found = run(by_column)
    assert layout.is_column_major(found)
    torch.testing.assert_close(found, run(x.contiguous(memory_format=torch.channels_last)))


def test_large_maps_are_activated_alike_in_every_layout() -> None:
    x = torch.randn(1, 16, 130, 700)  # above what is activated at once
    found = activated(layout.column_major(x))
    assert torch.equal(found, activated(x.contiguous(memory_format=torch.channels_last)))
    torch.testing.assert_close(found, activated(x))


def test_a_layout_is_told_by_strides() -> None:
    x = material()
    by_column = layout.column_major(x)
    assert layout.column_major(by_column) is by_column
    assert by_column.permute(0, 3, 2, 1).is_contiguous()
    assert layout.is_column_major(by_column[..., 2:7]), "a crop keeps the order"
    for other in (x, x.contiguous(memory_format=torch.channels_last), x[:, 0], x[..., :1], x[:, :1]):
        assert not layout.is_column_major(other)
    assert layout.layout_of(x) == torch.contiguous_format
    assert layout.layout_of(by_column) == layout.layout_of(x.contiguous(memory_format=torch.channels_last))


def test_gradients_pass_through_a_convolution_by_column() -> None:
    x = material().requires_grad_()
    kernel = weight(4, 6, 3, 3)
    (found,) = torch.autograd.grad(layout.conv2d(layout.column_major(x), kernel).square().sum(), x)
    (wanted,) = torch.autograd.grad(functional.conv2d(x, kernel).square().sum(), x)
    torch.testing.assert_close(found, wanted)
