"""Operations between convolutions: the references against formulas, and the Triton kernels against the references."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alis import ops
from alis.ops import resample
from alis.ops.bias_act import bias_act_reference
from alis.ops.malloc import keep_freed_memory

ROOT = Path(__file__).parents[3]


def filtered(x: Tensor, up: int, down: int, pad: int, size: int, gain: float) -> Tensor:
    """The filter along the last axis, by its definition, one number at a time."""
    taps = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
    columns = []
    for o in range(size):
        total = torch.zeros_like(x[..., 0])
        for k in range(4):
            at = o * down + k - pad
            if at % up == 0 and 0 <= at // up < x.shape[-1]:
                total = total + taps[k] * x[..., at // up]
        columns.append(total * gain)
    return torch.stack(columns, dim=-1)


def both(x: Tensor, up: int, down: int, pad: int, size: tuple[int, int], gain: float) -> Tensor:
    x = filtered(x, up, down, pad, size[1], gain)
    return filtered(x.transpose(2, 3), up, down, pad, size[0], gain).transpose(2, 3)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 4, 6), (1, 5, 8, 2)])
def test_resampling_is_the_filter_by_its_definition(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    h, w = shape[2:]
    torch.testing.assert_close(ops.up2(x), both(x, 2, 1, 2, (2 * h, 2 * w), 2))
    torch.testing.assert_close(ops.down2(x), both(x, 1, 2, 1, (h // 2, w // 2), 1))
    torch.testing.assert_close(ops.blur(x, 1, gain=4.0), both(x, 1, 1, 1, (h - 1, w - 1), 2))
    torch.testing.assert_close(ops.blur(x, 2), both(x, 1, 1, 2, (h + 1, w + 1), 1))


def test_columns_are_scaled_by_their_interpolated_styles() -> None:
    x, styles = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
    shares = torch.rand(2, 2, 5, dtype=torch.float64)
    y = ops.align(x, styles, shares)
    for b, c, w in [(0, 0, 0), (1, 2, 4), (0, 1, 3)]:
        scale = shares[b, 0, w] * styles[b, 0, c] + shares[b, 1, w] * styles[b, 1, c]
        torch.testing.assert_close(y[b, c, :, w], x[b, c, :, w] * scale)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_extend_repeats_the_outermost_columns_and_shrink_undoes_it(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    wide = ops.extend(x)
    assert torch.equal(wide, functional.pad(x, [1, 1, 0, 0], mode="replicate"))
    assert wide.is_contiguous(memory_format=layout)
    assert torch.equal(ops.shrink(wide, 1), x)
    assert ops.shrink(wide, 1).is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(ops.extend, x)
    assert torch.autograd.gradgradcheck(ops.extend, x)


def test_activation_is_bias_slope_gain_then_clamp() -> None:
    x = torch.tensor([-100.0, -1.0, 0.0, 0.5, 100.0]).reshape(1, 1, 1, 5)
    y = ops.bias_act(x, torch.tensor([0.5]), torch.full([1, 1, 1, 5], 0.5), gain=2.0, clamp=10.0)
    assert y.flatten().tolist() == pytest.approx([-10, 0, 2, 3, 10])
    assert ops.bias_act(x, torch.tensor([1.0]), slope=1.0, gain=1.0).flatten().tolist() == [-99, 0, 1, 1.5, 101]


@pytest.mark.parametrize("num_noise", [1, 2])
@pytest.mark.parametrize("size", [(2, 3, 4, 4), (2, 8, 300, 256)], ids=["small", "a few rows at a time"])
def test_overwriting_gives_the_same_and_only_where_no_gradient_is_recorded(
    size: tuple[int, int, int, int], num_noise: int
) -> None:
    x, bias, noise = torch.randn(size), torch.randn(size[1]), torch.randn(num_noise, 1, *size[2:])
    x = x.contiguous(memory_format=torch.channels_last)
    wanted = ops.bias_act(x, bias, noise, clamp=1.0)
    own = x.clone()
    assert ops.bias_act_(own, bias, noise, clamp=1.0) is own
    torch.testing.assert_close(own, wanted)
    bias.requires_grad_()
    own = x.clone()
    ops.bias_act_(own, bias, noise, clamp=1.0).sum().backward()
    assert torch.equal(own, x)
    assert bias.grad is not None


REFERENCES: dict[str, Callable[..., Tensor]] = {
    "align": lambda x, s: ops.align(x, s, torch.rand(2, 2, 2, dtype=torch.float64, generator=torch.Generator())),
    "bias_act": lambda x, s: ops.bias_act(x, s[0, 0], s[1, 0].reshape(1, 1, -1, 1)[:, :, :1], clamp=1.5),
    "up2": lambda x, s: ops.up2(x),
    "down2": lambda x, s: ops.down2(x),
    "blur": lambda x, s: ops.blur(x, 2),
}


@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("slope", [0.2, 1.0])
def test_the_cpu_activation_equals_its_reference_in_both_derivatives(slope: float, clamp: float | None) -> None:
    torch.manual_seed(0)
    x, bias, noise = (torch.randn(*s, dtype=torch.float64).requires_grad_() for s in ((2, 3, 4, 6), (3,), (2, 1, 4, 6)))
    found = []
    for op in (ops.bias_act, bias_act_reference):
        y = op(x, bias, noise, slope=slope, gain=1.3, clamp=clamp)
        first = torch.autograd.grad(y.pow(3).sum(), (x, bias, noise), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, bias, noise))
        found.append([y, *first, *second])
    for mine, reference in zip(*found, strict=True):
        torch.testing.assert_close(mine, reference)
    assert clamp is None or (found[0][0].abs() == clamp).any()


@pytest.mark.parametrize("op", REFERENCES)
def test_references_have_first_and_second_derivatives(op: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64, generator=generator).requires_grad_()
    s = torch.randn(2, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(REFERENCES[op], (x, s), fast_mode=True)
    assert torch.autograd.gradgradcheck(REFERENCES[op], (x, s), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_references_in_half_precision(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 6, 4).to(dtype).contiguous(memory_format=layout)
    s, shares = torch.randn(2, 2, 3), torch.rand(2, 2, 4)
    for run in (
        ops.up2,
        ops.down2,
        lambda v: ops.blur(v, 2),
        lambda v: ops.align(v, s, shares),
        lambda v: ops.bias_act(v, s[0, 0], clamp=2.0),
    ):
        y = run(x)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=layout) or run is ops.up2
        torch.testing.assert_close(y.float(), run(x.float()), atol=2e-2, rtol=2e-2)


def test_blur_by_convolution_is_blur_by_slices() -> None:
    x = torch.randn(2, 3, 5, 7)
    wide = functional.pad(x, [1, 1, 1, 1])
    taps = torch.tensor(resample.TAPS)
    weight = (taps[:, None] * taps).expand(3, 1, 4, 4)
    torch.testing.assert_close(ops.blur(x, 1), functional.conv2d(wide, weight, groups=3))


def test_kernels_by_the_interpreter() -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    if triton.__version__.startswith("3.6.") and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton 3.6 interprets nothing under numpy 2.4")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "tests/alis/ops/kernels_by_interpreter.py"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("last", [False, True], ids=["rows last", "channels last"])
def test_kernels_compile_without_a_gpu(last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the kernels to PTX: the interpreter accepts code that the compiler refuses."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from alis.ops import align_triton, bias_act_triton, resample_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tl = triton.language
    walk = {"WIDE": tl.float32, "LAST": last, "OUTER": 8, "INNER": 128}
    product = {"NUM": 2, **walk}
    filters = {"UP": 2, "DOWN": 1, "PAD": 2, **walk}
    flags = {"NOISE": True, "CLAMP": True, **walk}
    kernels = [
        (align_triton._product_kernel, {"x": "*fp16", "styles": "*fp32", "shares": "*fp64", "y": "*fp16"}, product),
        (bias_act_triton._forward_kernel, {"x": "*fp16", "bias": "*fp32", "noise": "*fp32", "y": "*fp16"}, flags),
        (bias_act_triton._slope_kernel, {"g": "*fp16", "y": "*fp16", "out": "*fp16"}, {"CLAMP": True, **walk}),
        (resample_triton._filter_kernel, {"x": "*bf16", "y": "*bf16"}, filters),
    ]
    if not last:
        sums = {"NUM": 2, "CHUNK": 64, "WIDE": tl.float32, "OUTER": 8, "INNER": 128}
        kernels.append(
            (align_triton._sums_kernel, {"p": "*fp16", "q": "*fp16", "shares": "*fp64", "part": "*fp32"}, sums)
        )
    for kernel, pointers, constants in kernels:
        numbers = {name: "fp32" if name in {"slope", "gain", "clamp"} else "i32" for name in kernel.arg_names}
        signature = {**numbers, **pointers, **dict.fromkeys(constants, "constexpr")}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        built = triton.compile(source, target=GPUTarget("cuda", 80, 32))
        assert "ld.global" in built.asm["ptx"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: kernels are tested by the interpreter")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_kernels_on_the_device(dtype: torch.dtype) -> None:
    from alis.ops.dispatch import use_triton

    x = torch.randn(3, 17, 64, 33, device="cuda", dtype=dtype)[..., 1:]
    s, shares = torch.randn(3, 2, 17, device="cuda"), torch.rand(3, 2, 32, device="cuda")
    for run in (
        ops.up2,
        ops.down2,
        lambda v: ops.blur(v, 2),
        lambda v: ops.align(v, s, shares),
        lambda v: ops.bias_act(v, s[0, 0], clamp=2.0),
    ):
        found = run(x)
        use_triton(False)
        wanted = run(x.double())
        use_triton(True)
        torch.testing.assert_close(found.double(), wanted, atol=3e-2, rtol=3e-2)


def test_keeping_freed_memory_can_be_turned_off() -> None:
    assert keep_freed_memory() is keep_freed_memory.__wrapped__()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIS_KEEP_PAGES", "0")
        assert keep_freed_memory.__wrapped__() is False


TOUCHED_AGAIN = """
import ctypes, resource, sys
from alis.ops.malloc import keep_freed_memory
keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p

def faults(num, megabytes):
    rooms = [ctypes.c_void_p(c.malloc(ctypes.c_size_t(megabytes << 20))) for _ in range(num)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ctypes.memset(rooms[0], 1, 64 << 20)
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    for room in reversed(rooms):
        c.free(room)
    return found

held = int(sys.argv[1]), int(sys.argv[2])
faults(*held)
print(faults(*held))
"""


@pytest.mark.parametrize(("num", "megabytes"), [(3, 900), (1, 1500)], ids=["many blocks", "a large one"])
def test_freed_memory_is_kept_however_much_it_was(num: int, megabytes: int) -> None:
    """Allocates more than 1 or 2 GB of address space and touches 64 MB of it, which are 16,384 pages."""
    if not keep_freed_memory():
        pytest.skip("this C library gives no such promise")
    done = subprocess.run(
        [sys.executable, "-c", TOUCHED_AGAIN, str(num), str(megabytes)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 1000
