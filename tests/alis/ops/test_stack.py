"""`stack`: against its definition, in all memory formats, and derivatives of every order."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import Tensor

from alis import ops

# `alis.ops.stack` as an attribute is the function of the same name.
stack = import_module("alis.ops.stack")
LAYOUTS = [torch.contiguous_format, torch.channels_last]
ANCHORS = [2, 3, 7]


def material(num_anchors: int, layout: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    """Random features, styles, shares, and further channels."""
    torch.manual_seed(num_anchors)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64).contiguous(memory_format=layout)
    styles = torch.randn(2, num_anchors, 3, dtype=torch.float64)
    shares = torch.rand(2, num_anchors, 6, dtype=torch.float64)
    rest = torch.randn(2, 5, 4, 6, dtype=torch.float64).contiguous(memory_format=layout)
    return [x, styles, shares, rest]


def by_definition(x: Tensor, styles: Tensor, shares: Tensor, rest: Tensor | None = None) -> Tensor:
    """The definition, computed one number at a time."""
    more = 0 if rest is None else rest.shape[1]
    num, height, width = x.shape[1:]
    y = torch.full((len(x), num + more, height + 2, width), torch.nan, dtype=x.dtype)
    for b in range(len(x)):
        for row in range(height + 2):
            seen = min(max(row - 1, 0), height - 1)
            for w in range(width):
                for c in range(num):
                    scale = sum(float(shares[b, a, w]) * float(styles[b, a, c]) for a in range(styles.shape[1]))
                    y[b, c, row, w] = float(x[b, c, seen, w]) * scale
                for c in range(more):
                    assert rest is not None
                    y[b, num + c, row, w] = rest[b, c, seen, w]
    return y


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("num_anchors", ANCHORS)
def test_stack_is_styled_features_and_further_channels_with_replicated_rows(
    num_anchors: int, layout: torch.memory_format
) -> None:
    x, styles, shares, rest = material(num_anchors, layout)
    for further in (None, rest):
        wanted = by_definition(x, styles, shares, further)
        found = ops.stack(x, styles, shares, further)
        torch.testing.assert_close(found, wanted)
        assert found.is_contiguous(memory_format=layout)
        learning = ops.stack(x.clone().requires_grad_(), styles, shares, further)
        assert torch.equal(learning, found)
        assert learning.requires_grad
        assert learning.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stack_written_equals_stack(layout: torch.memory_format) -> None:
    x, styles, shares, rest = material(3, layout)
    rooms: list[Tensor] = []

    def write(room: Tensor) -> None:
        rooms.append(room)
        room.copy_(rest)

    found = ops.stack_written(x, styles, shares, rest.shape[1], write)
    assert torch.equal(found, ops.stack(x, styles, shares, rest))
    assert found.is_contiguous(memory_format=layout)
    (room,) = rooms
    assert room.shape == rest.shape
    # The memory of the result itself, not of another map.
    assert room.data_ptr() == found[:, x.shape[1] :, 1:-1].data_ptr()
    assert torch.equal(ops.stack_written(x, styles, shares, 0, lambda room: None), ops.stack(x, styles, shares))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_result_has_the_dtype_of_the_features(dtype: torch.dtype) -> None:
    x, styles, shares, rest = material(2)
    wanted = ops.stack(x, styles, shares, rest)
    # Styles and shares stay float32: float16 would lose a share of a thousandth.
    found = ops.stack(x.to(dtype), styles.float(), shares, rest.to(dtype))
    assert found.dtype == dtype
    atol = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float32: 1e-6}[dtype]
    torch.testing.assert_close(found.double(), wanted, atol=atol, rtol=atol)
    written = ops.stack_written(x.to(dtype), styles.float(), shares, 5, lambda room: room.copy_(rest))
    assert torch.equal(written, found)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("num_anchors", ANCHORS[:2])
def test_first_and_second_derivatives(num_anchors: int, layout: torch.memory_format) -> None:
    x, styles, shares, rest = material(num_anchors, layout)
    live = [x.requires_grad_(), styles.requires_grad_(), rest.requires_grad_()]

    def run(x: Tensor, styles: Tensor, rest: Tensor) -> Tensor:
        return ops.stack(x, styles, shares, rest)

    assert torch.autograd.gradcheck(run, live, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, live, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x, s: ops.stack(x, s, shares), live[:2], fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, s: ops.stack(x, s, shares), live[:2], fast_mode=True)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["features", "styles", "further channels"])
def test_each_gradient_alone_equals_that_of_all_three_together(which: int) -> None:
    x, styles, shares, rest = material(3)
    weight = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    live = [x, styles, rest]
    every = [value.clone().requires_grad_() for value in live]
    together = torch.autograd.grad((ops.stack(every[0], every[1], shares, every[2]) * weight).sum(), every)
    alone = [value.clone().requires_grad_(number == which) for number, value in enumerate(live)]
    (found,) = torch.autograd.grad((ops.stack(alone[0], alone[1], shares, alone[2]) * weight).sum(), alone[which])
    torch.testing.assert_close(found, together[which])


def test_repeat_rows_repeats_only_the_outer_rows() -> None:
    x = torch.randn(2, 3, 4, 5)
    wide = ops.repeat_rows(x)
    assert torch.equal(wide[:, :, 1:-1], x)
    assert torch.equal(wide[:, :, 0], x[:, :, 0])
    assert torch.equal(wide[:, :, -1], x[:, :, -1])
    one_row = ops.repeat_rows(x[:, :, :1])
    assert torch.equal(one_row, x[:, :, :1].expand(-1, -1, 3, -1))


def test_the_module_and_its_function_share_a_name() -> None:
    assert stack.stack is ops.stack
    assert stack.stack_written is ops.stack_written
