"""Seconds a frame, side by side in one run: the published formulation in PyTorch, ours, and the machine's floor.

The peer is the method as its formulas read: frames in NCHW, every layer cut into patches and glued again, styles
spread over the whole window for each layer, waves by sines, the filter as a grouped convolution, weights scaled at
every call; it runs in a process of its own, with the allocator as it comes. The floor is a matrix product of the same
number of operations at the speed this machine reaches.

    OMP_NUM_THREADS=2 python benchmarks/networks.py              # CPU, and the GPU where there is one
    python benchmarks/networks.py --quick                        # a small frame, to see that it runs
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import small
import torch
from torch import Tensor
from torch.nn import functional

import alis
from alis import ops
from alis.config import ModelConfig
from alis.models.cost import generator_cost
from alis.ops.dispatch import use_triton

# Seconds a frame that the project promises on two cores.
WANTED = {(1024, "float32"): 1.6, (1024, "bfloat16"): 1.0, (256, "float32"): 0.25}
# And its time over the floor's.
WANTED_OVER_FLOOR = {(1024, "float32"): 1.05, (256, "float32"): 1.1}
Row = dict[str, str | int | float | None]


class Published:
    """The generator as its formulas read, on our weights: the peer."""

    def __init__(self, g: alis.Generator) -> None:
        self.c, self.g = g.config, g
        self.dtype = torch.float32

    def styles(self, layer: torch.nn.Module, w: list[Tensor], half: bool) -> list[Tensor]:
        found = [layer.affine(one) * layer.style_gain for one in w]
        return [style / style.abs().amax(dim=1, keepdim=True) for style in found] if half else found

    def align(self, x: Tensor, styles: list[Tensor], shift: int) -> Tensor:
        width = x.shape[3]
        n = int(0.5 * self.c.w_coord_dist * width)
        c = torch.linspace(1 / (2 * n), 1 - 1 / (2 * n), n)
        left, centre, right = (style[:, :, None] for style in styles)
        window = torch.cat([(1 - c) * left + c * centre, (1 - c) * centre + c * right], dim=2)
        start = shift * (width // self.c.grid_size)
        return x * window[:, :, None, start : start + width].to(x.dtype)

    def waves(self, basis: Tensor, width: int, shift: int, batch: int) -> Tensor:
        j = torch.arange(width)
        x = 2 * (j + shift * (width // self.c.grid_size)) / width - self.c.w_coord_dist
        y = 1 - 2 * (j + 1) / width
        xy = torch.stack([x[None].expand(width, -1), y[:, None].expand(-1, width)])
        angle = torch.einsum("kc,chw->khw", basis, xy)
        return torch.cat([angle.sin(), angle.cos()]).expand(batch, -1, -1, -1)

    def conv(self, layer: torch.nn.Module, x: Tensor, w: list[Tensor], shift: int) -> Tensor:
        x = self.align(x, self.styles(layer, w, layer.normalise), shift)
        weight = layer.weight
        demodulation = (weight.square().sum(dim=(1, 2, 3)) + 1e-8).rsqrt()
        weight = weight.to(x.dtype)
        patches = []
        for patch in x.chunk(self.c.grid_size, dim=3):
            if layer.up:
                wide = functional.conv_transpose2d(patch, weight.transpose(0, 1), stride=2)
                taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
                fir = (taps[:, None] * taps / 16).expand(wide.shape[1], 1, 4, 4)
                patches.append(functional.conv2d(wide, fir, padding=1, groups=wide.shape[1]))
            else:
                patches.append(functional.conv2d(patch, weight, padding=1))
        x = torch.cat(patches, dim=3) * demodulation[None, :, None, None].to(x.dtype)
        x = functional.leaky_relu(x + layer.bias[None, :, None, None].to(x.dtype), 0.2) * math.sqrt(2)
        return x.clamp(-256, 256)

    def __call__(self, w: list[Tensor], shift: int) -> Tensor:
        blocks = self.g.synthesis.blocks
        x = self.align(
            blocks[0].column[None, :, :, None].expand(1, -1, -1, 4), self.styles(blocks[0].input, w, False), shift
        )
        image: Tensor | None = None
        for block in blocks:
            basis = torch.tensor(alis.plane.coords.block_basis(self.c, block.resolution))
            x = torch.cat([x, self.waves(basis, block.width, shift, 1).to(x.dtype)], dim=1)
            if not block.first:
                x = self.conv(block.conv0, x.to(self.dtype), w, shift)
            x = self.conv(block.conv1, x, w, shift)
            rgb = functional.conv2d(
                self.align(x, self.styles(block.torgb, w, False), shift), block.torgb.weight.to(x.dtype)
            )
            rgb = (rgb + block.torgb.bias[None, :, None, None].to(x.dtype)).clamp(-256, 256).float()
            if image is not None:
                rgb = rgb + torch.cat([ops.up2(patch) for patch in image.chunk(self.c.grid_size, dim=3)], dim=3)
            image = rgb
        assert image is not None
        return image


def seconds(run: Callable[[], object], repeats: int, device: str) -> float:
    """Median of `repeats` runs after one that is not counted."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def core_seconds(run: Callable[[], object], repeats: int) -> float:
    """Least processor time of one core for a run on one thread: says the same on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = []
    for _ in range(repeats + 1):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return min(taken[1:])


def floor(flops: float, dtype: torch.dtype, repeats: int, device: str) -> float:
    """Seconds that a matrix product of as many operations takes here."""
    size = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return seconds(lambda: a @ b, repeats, device) * flops / (2 * size**3)


def peer_seconds(resolution: int, channel_base: int, dtype: str, repeats: int) -> tuple[float, float]:
    """Seconds and core-seconds of the peer, in a process where no allocator was tuned."""
    words = [sys.executable, __file__, "--peer", str(resolution), str(channel_base), dtype, "--repeats", str(repeats)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "ALIS_KEEP_PAGES": "0"})
    wall, core = json.loads(done.stdout)
    return wall, core


def time_peer(resolution: int, channel_base: int, dtype: str, repeats: int) -> None:
    """What the peer's process does: print its seconds and core-seconds."""
    torch.manual_seed(0)
    config = ModelConfig(resolution=resolution, channel_base=channel_base, num_half_res=4)
    g = alis.Generator(config).eval().requires_grad_(False)
    peer, w = Published(g), [g.map(torch.randn(1, config.z_dim)) for _ in range(3)]
    peer.dtype = getattr(torch, dtype)
    wall = seconds(lambda: peer(w, 1), repeats, "cpu")
    print(json.dumps([wall, core_seconds(lambda: peer(w, 1), max(repeats // 3, 1))]))


def on_cpu(resolution: int, channel_base: int, repeats: int) -> Iterator[Row]:
    """Peer, ours and floor for one size, float32 and bfloat16."""
    torch.manual_seed(0)
    config = ModelConfig(resolution=resolution, channel_base=channel_base, num_half_res=4)
    g = alis.Generator(config).eval().requires_grad_(False)
    peer, w = Published(g), [g.map(torch.randn(1, config.z_dim)) for _ in range(3)]
    flops = generator_cost(config).flops
    agree = (g(*w, 1) - peer(w, 1)).abs().max() / g(*w, 1).abs().max()
    assert agree < 1e-3, f"the peer computes something else: {float(agree):.1e}"
    for dtype in (torch.float32, torch.bfloat16):
        g.set_precision(dtype, 4 if dtype == torch.bfloat16 else None)
        name = str(dtype).removeprefix("torch.")
        theirs, their_core = peer_seconds(resolution, channel_base, name, repeats)
        mine, least = seconds(lambda: g(*w, 1), repeats, "cpu"), floor(flops, dtype, repeats, "cpu")
        yield {
            "what": f"frame {resolution}, {name}, CPU",
            "published_s": theirs,
            "ours_s": mine,
            "floor_s": least,
            "times_faster": theirs / mine,
            "of_floor": least / mine,
            "over_floor": mine / least,
            "wanted_over_floor": WANTED_OVER_FLOOR.get((resolution, name)),
            "gflops": flops / 1e9,
            "published_core_s": their_core,
            "ours_core_s": core_seconds(lambda: g(*w, 1), max(repeats // 3, 1)),
            "wanted_s": WANTED.get((resolution, name)),
        }


def on_gpu(resolution: int, channel_base: int, repeats: int) -> Iterator[Row]:
    """Frames a second: plain PyTorch, torch.compile, Triton with rows or channels last."""
    config = ModelConfig(resolution=resolution, channel_base=channel_base, num_half_res=4)
    g = alis.Generator(config).eval().requires_grad_(False).cuda()
    batch = 16 if resolution <= 256 else 4
    w = [g.map(torch.randn(batch, config.z_dim, device="cuda")) for _ in range(3)]
    for dtype in (torch.float16, torch.bfloat16):
        g.set_precision(dtype)
        use_triton(False)
        eager = seconds(lambda: g(*w, 1), repeats, "cuda")
        taken = {"plain PyTorch": eager, "torch.compile": seconds(partial(torch.compile(g), *w, 1), repeats, "cuda")}
        use_triton(True)
        for layout in (torch.contiguous_format, torch.channels_last):
            g.synthesis.layout = layout
            taken[f"Triton, {str(layout).removeprefix('torch.')}"] = seconds(lambda: g(*w, 1), repeats, "cuda")
        g.synthesis.layout = None
        for name, time_s in taken.items():
            yield {
                "what": f"frame {resolution}, {str(dtype).removeprefix('torch.')}, GPU, {name}",
                "frames_per_s": batch / time_s,
                "times_faster": eager / time_s,
            }


def kernels_on_gpu(repeats: int) -> Iterator[Row]:
    """Each kernel's time as a part of a plain copy's."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = torch.randn(16, 128, 512, 256, device="cuda", dtype=dtype)
        y, bias = torch.empty_like(x), torch.randn(128, device="cuda")
        styles, shares = torch.randn(16, 2, 128, device="cuda"), torch.rand(16, 2, 256, device="cuda")
        copy = seconds(partial(y.copy_, x), repeats, "cuda")
        for name, run in (
            ("align", partial(ops.align, x, styles, shares)),
            ("bias_act", partial(ops.bias_act, x, bias, clamp=256.0)),
        ):
            yield {
                "what": f"{name}, {str(dtype).removeprefix('torch.')}, GPU",
                "of_copy_bandwidth": copy / seconds(run, repeats, "cuda"),
                "wanted": 0.85,
            }


def main() -> None:
    """Run, print a table, and write benchmarks/results/networks.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer", nargs=3, metavar=("RESOLUTION", "BASE", "DTYPE"), help=argparse.SUPPRESS)
    args = small.parse(parser, repeats=3)
    if args.peer:
        with torch.inference_mode():
            time_peer(int(args.peer[0]), int(args.peer[1]), args.peer[2], args.repeats)
        return
    sizes = [(64, 4096)] if args.quick else [(256, 16384), (1024, 32768)]
    rows: list[Row] = []
    with torch.inference_mode():
        for size in sizes:
            rows += on_cpu(*size, args.repeats)
            if torch.cuda.is_available():
                rows += on_gpu(*size, args.repeats)
        if torch.cuda.is_available():
            rows += kernels_on_gpu(args.repeats)
    for row in rows:
        print(
            " · ".join(f"{key} {value:.3g}" if isinstance(value, float) else str(value) for key, value in row.items())
        )
    told = {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none: figures still to be taken",
        "torch": torch.__version__,
        "rows": rows,
    }
    (args.results / "networks.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} × {len(names)}" if names else platform.processor()


if __name__ == "__main__":
    main()
