"""Panoramas side by side with the walk of single frames: megapixels a second, share of convolutions, flat memory.

    python benchmarks/panorama.py [--quick] [--device cuda] [--only speed|memory] [--threads N]

The peer is the published way to walk, with the same network and weights: frames one by one, each computing its own
affine layers, put side by side in memory. Networks are the published 256 px size and this project's 64 px size, with
random weights: speed and memory do not depend on what was learned. Three ratios are told apart: `sharing`, panorama
against walk, both float32; `precision`, the walk in what `--precision auto` chooses against the walk in float32; and
`together`. `of_matrix_product` says how near the panorama in float32 comes to what the device multiplies at best: the
network's arithmetic over its time, against a large matrix product's. Floors: 1.5 × the walk; memory 1.15 × a strip of
ten frames.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SIZES = {
    64: {"resolution": 64, "channel_base": 4096, "channel_max": 256, "z_dim": 256, "w_dim": 256},
    256: {"resolution": 256, "channel_base": 16384, "channel_max": 512},
}
# Memory is measured with narrow networks: they take little themselves, so that a strip's share can't hide behind them.
NARROW = {
    64: {"resolution": 64, "channel_base": 512, "channel_max": 64, "z_dim": 64, "w_dim": 64},
    256: {"resolution": 256, "channel_base": 2048, "channel_max": 64, "z_dim": 64, "w_dim": 64},
}
FLOOR_SPEED, FLOOR_MEMORY = 1.5, 1.15


def generator(size: int, device: str, *, narrow: bool = False, padding: str = "zeros"):  # type: ignore[no-untyped-def]
    """A network with random weights."""
    import torch

    import alis

    torch.manual_seed(0)
    config = alis.ModelConfig(**(NARROW if narrow else SIZES)[size], padding=padding)
    g = alis.Generator(config).to(device).eval().requires_grad_(False)
    for name, parameter in g.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return g


def clock_of(device: str) -> Callable[[], float]:
    """Seconds: of the processor for one thread, so that other work on the machine does not count; else of the wall."""
    import torch

    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def clock(g) -> float:  # type: ignore[no-untyped-def]
    """The time now, by the clock of the generator's device."""
    return clock_of(g.device.type)()


def walk(g, num_frames: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds of the published walk: frame by frame, three anchors each, pictures joined at the end."""
    import torch

    config, frames = g.config, []
    started = clock(g)
    with torch.inference_mode():
        per_window = config.window_patches // config.grid_size
        w = g.map(torch.randn(2 * (-(-num_frames // per_window)) + 1, config.z_dim, device=g.device))
        for number in range(num_frames):
            window, seat = divmod(number, per_window)
            three = [w[2 * window + i][None] for i in range(3)]
            frame = g(*three, seat * config.grid_size, noise="random")
            frames.append((frame[0] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu())
        torch.cat(frames, dim=1).numpy()
    return clock(g) - started


def panorama(g, num_frames: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds of `alis.Panorama` over as many columns."""
    import alis

    plane = alis.Panorama(g, 7)
    started = clock(g)
    for _ in plane.blocks(0, num_frames * plane.height):
        pass
    return clock(g) - started


def share_of_convolutions(g) -> float:  # type: ignore[no-untyped-def]
    """Of the time of some blocks; each convolution is timed where it is called."""
    import torch
    from torch.overrides import TorchFunctionMode

    import alis

    plane, spent = alis.Panorama(g, 7), 0.0

    class Timed(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal spent
            if function not in {torch.conv2d, torch.conv_transpose2d}:
                return function(*args, **(kwargs or {}))
            wait(g)
            started = time.perf_counter()
            result = function(*args, **(kwargs or {}))
            wait(g)
            spent += time.perf_counter() - started
            return result

    plane.block(0)
    started = time.perf_counter()
    with Timed():
        for number in range(1, 5):
            plane.block(number)
    wait(g)
    return spent / (time.perf_counter() - started)


def wait(g) -> None:  # type: ignore[no-untyped-def]
    """Until the GPU has done what it was told."""
    import torch

    if g.device.type == "cuda":
        torch.cuda.synchronize()


def peak_bytes(size: int, width: int, ending: str, device: str, padding: str) -> int:
    """Peak resident memory of a process that paints one strip to a file."""
    code = (
        "import sys, tempfile; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from benchmarks.panorama import generator\n"
        "import alis\n"
        "from alis.painting import strip\n"
        "g = generator(int(sys.argv[2]), sys.argv[5], narrow=True, padding=sys.argv[6])\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    plan = strip.plan(alis.Panorama(g, 7), width=int(sys.argv[3]))\n"
        "    strip.paint(plan, Path(folder) / f's{sys.argv[4]}')\n"
        # A process's own peak; getrusage also counts what its parent held when it started it.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(ROOT), str(size), str(width), ending, device, padding]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def best_flops(device: str) -> float:
    """Multiplications and additions a second of a large matrix product in float32."""
    import torch

    a, best = torch.randn(1024, 1024, device=device), 1e9
    now = clock_of(device)
    for _ in range(40):
        started = now()
        float((a @ a)[0, 0])
        best = min(best, now() - started)
    return 2 * 1024**3 / best


def grey_levels(model: str) -> dict[str, object]:
    """How far a trained model's pictures in less precision are from those in float32 (random weights tell nothing)."""
    import numpy as np

    import alis
    from alis.painting.panorama import choose_precision

    g = alis.load(model)
    plane = alis.Panorama(g, 7)
    width = 16 * plane.height
    exact, found = plane[0:width].astype(int), {}
    for precision in ("bfloat16", "float16"):
        choose_precision(g, precision)
        apart = np.abs(plane[0:width].astype(int) - exact)
        found[precision] = {
            "mean": round(float(apart.mean()), 3),
            "p99": float(np.quantile(apart, 0.99)),
            "max": int(apart.max()),
        }
    return {"resolution": g.config.resolution} | found


def speed_table(size: int, device: str, num_frames: int, rounds: int) -> dict[str, object]:
    """All ways in turn, several rounds; the best of each counts, since other work on the machine only adds time."""
    import alis
    from alis.models.cost import generator_cost
    from alis.painting.panorama import choose_precision

    g = generator(size, device)
    fast = choose_precision(g, "auto")
    ways = [(name, way) for name in dict.fromkeys(("float32", fast)) for way in (walk, panorama)]
    seconds: dict[tuple[str, object], list[float]] = {way: [] for way in ways}
    product = 0.0
    for turn in range(rounds + 1):
        product = max(product, best_flops(device))
        for precision, way in ways:
            choose_precision(g, precision)
            took = way(g, num_frames if turn else min(num_frames, 8))
            if turn:
                seconds[precision, way].append(took)
    best = {way: min(took) for way, took in seconds.items()}
    megapixels, slow = num_frames * size * size / 1e6, best["float32", walk]
    flops = generator_cost(g.config).flops * num_frames / best["float32", panorama]
    choose_precision(g, "float32")
    share = share_of_convolutions(g)
    return {
        "resolution": size,
        "frames": num_frames,
        "batch": alis.Panorama(g).batch,
        "auto_precision": fast,
        "ratio_sharing": round(slow / best["float32", panorama], 2),
        "ratio_precision": round(slow / best[fast, walk], 2),
        "ratio_together": round(slow / best[fast, panorama], 2),
        "floor": FLOOR_SPEED,
        "walk_mpx_s": round(megapixels / slow, 3),
        "panorama_mpx_s": round(megapixels / best["float32", panorama], 3),
        "panorama_auto_mpx_s": round(megapixels / best[fast, panorama], 3),
        "share_of_convolutions": round(share, 3),
        "of_matrix_product": round(flops / product, 3),
    }


def memory_table(size: int, width: int, ending: str, device: str, padding: str = "zeros") -> dict[str, object]:
    """A long strip against ten frames, each in its own process."""
    ten, long = (peak_bytes(size, w, ending, device, padding) for w in (10 * size, width))
    return {
        "resolution": size,
        "format": ending,
        "width_px": width,
        "ten_frames_mb": round(ten / 1e6),
        "long_strip_mb": round(long / 1e6),
        "ratio": round(long / ten, 3),
        "floor": FLOOR_MEMORY,
    }


def main() -> None:
    """Measure, print a table, write benchmarks/results/panorama[_device].json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU; 1 measures processor time")
    parser.add_argument("--only", choices=["speed", "memory"])
    parser.add_argument("--model", help="a trained one: how many grey levels less precision costs it")
    args = parser.parse_args()
    import torch

    quick = args.quick
    torch.set_num_threads(args.threads)
    found: dict[str, object] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": args.device,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "quick": quick,
        "gpu": torch.cuda.get_device_name() if args.device.startswith("cuda") else None,
    }
    if args.only != "memory":
        fast = args.device.startswith("cuda")
        plans = [(64, 64, 4), (256, 8, 3)] if not fast else [(64, 512, 5), (256, 256, 5)]
        found["speed"] = []
        for size, num_frames, rounds in plans:
            row = speed_table(size, args.device, 8 if quick else num_frames, 1 if quick else rounds)
            found["speed"].append(row)  # type: ignore[attr-defined]
            save(found, args)
            print(
                f"R = {row['resolution']:4d}  × the walk: {row['ratio_sharing']:.2f} by sharing, "
                f"{row['ratio_precision']:.2f} by {row['auto_precision']}, {row['ratio_together']:.2f} together "
                f"(floor {FLOOR_SPEED})   {row['walk_mpx_s']:.3f} → {row['panorama_mpx_s']:.3f} → "
                f"{row['panorama_auto_mpx_s']:.3f} Mpx/s   convolutions {row['share_of_convolutions']:.0%}, "
                f"{row['of_matrix_product']:.0%} of a matrix product",
                flush=True,
            )
    if args.model:
        found["grey_levels_apart"] = grey_levels(args.model)
        print(f"grey levels apart from float32: {found['grey_levels_apart']}", flush=True)
    if args.only != "speed":
        plans = [(64, 20_000, ".png"), (256, 4_000, ".png"), (64, 20_000, ".tif")]
        if not quick:
            plans = [(64, 1_000_000, ".png"), (256, 50_000, ".png"), (64, 1_000_000, ".tif")]
        found["memory"] = []
        for size, width, ending in plans:
            row = memory_table(size, width, ending, args.device)
            found["memory"].append(row)  # type: ignore[attr-defined]
            save(found, args)
            print(
                f"R = {size:4d}  {width:9,d} px {ending}  {row['ratio']:.3f} × ten frames (floor {FLOOR_MEMORY})   "
                f"{row['long_strip_mb']} against {row['ten_frames_mb']} MB",
                flush=True,
            )
    save(found, args)


def save(found: dict[str, object], args: argparse.Namespace) -> None:
    """Keep what is measured; a part that this run did not measure stays as it was."""
    suffix = "" if args.device == "cpu" else "_gpu"
    path = ROOT / "benchmarks" / "results" / f"panorama{suffix}{'_quick' if args.quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(before | found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
