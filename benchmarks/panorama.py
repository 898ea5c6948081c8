"""Panoramas side by side with the walk of single frames: megapixels a second, share of convolutions, flat memory.

    python benchmarks/panorama.py [--quick] [--device cuda]

The peer is the published way to walk, with the same network and weights: frames one by one, each computing its own
affine layers, put side by side in memory. Networks are the published 256 px size and this project's 64 px size, with
random weights: speed and memory do not depend on what was learned. Floors: 1.5 × the walk; memory 1.15 × a strip of
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


def generator(size: int, device: str, *, narrow: bool = False):  # type: ignore[no-untyped-def]
    """A network with random weights."""
    import torch

    import alis

    torch.manual_seed(0)
    g = alis.Generator(alis.ModelConfig(**(NARROW if narrow else SIZES)[size])).to(device).eval().requires_grad_(False)
    for name, parameter in g.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return g


def clock(g) -> float:  # type: ignore[no-untyped-def]
    """Seconds: of the processor for one thread, so that other work on the machine does not count; else of the wall."""
    import torch

    alone = g.device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()


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
    """Of a block's time, measured by the profiler on the device that computes."""
    from torch.profiler import ProfilerActivity, profile

    import alis

    plane, on_gpu = alis.Panorama(g, 7), g.device.type == "cuda"
    plane.block(0)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as watched:
        plane.block(1)
    times = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in watched.key_averages()
    }
    total = sum(times.values())
    names = ("conv", "gemm", "cudnn", "xmma", "cutlass") if on_gpu else ("convolution",)
    return sum(t for name, t in times.items() if any(part in name.lower() for part in names)) / max(total, 1e-9)


def peak_bytes(size: int, width: int, ending: str, device: str) -> int:
    """Peak resident memory of a process that paints one strip to a file."""
    code = (
        "import resource, sys, tempfile; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from benchmarks.panorama import generator\n"
        "import alis\n"
        "from alis import strip\n"
        "g = generator(int(sys.argv[2]), sys.argv[5], narrow=True)\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    plan = strip.plan(alis.Panorama(g, 7), width=int(sys.argv[3]))\n"
        "    strip.paint(plan, Path(folder) / f's{sys.argv[4]}')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(ROOT), str(size), str(width), ending, device]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def speed_table(size: int, device: str, num_frames: int, rounds: int) -> dict[str, object]:
    """Both ways in turn, several rounds; the best of each counts, since other work on the machine only adds time."""
    g = generator(size, device)
    panorama(g, min(num_frames, 8)), walk(g, min(num_frames, 8))
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(walk(g, num_frames))
        ours.append(panorama(g, num_frames))
    megapixels = num_frames * size * size / 1e6
    return {
        "resolution": size, "frames": num_frames, "batch": __import__("alis").Panorama(g).batch,
        "walk_mpx_s": round(megapixels / min(theirs), 3), "panorama_mpx_s": round(megapixels / min(ours), 3),
        "ratio": round(min(theirs) / min(ours), 2), "floor": FLOOR_SPEED,
        "share_of_convolutions": round(share_of_convolutions(g), 3),
    }  # fmt: skip


def memory_table(size: int, width: int, ending: str, device: str) -> dict[str, object]:
    """A long strip against ten frames, each in its own process."""
    ten, long = (peak_bytes(size, w, ending, device) for w in (10 * size, width))
    return {
        "resolution": size, "format": ending, "width_px": width, "ten_frames_mb": round(ten / 1e6),
        "long_strip_mb": round(long / 1e6), "ratio": round(long / ten, 3), "floor": FLOOR_MEMORY,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, write benchmarks/results/panorama[_device].json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 1 measures processor time")
    parser.add_argument("--only", choices=["speed", "memory"])
    args = parser.parse_args()
    import torch

    quick = args.quick
    torch.set_num_threads(args.threads)
    found: dict[str, object] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "python": platform.python_version(),
        "torch": torch.__version__, "device": args.device, "machine": platform.machine(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "quick": quick,
        "gpu": torch.cuda.get_device_name() if args.device.startswith("cuda") else None,
    }  # fmt: skip
    if args.only != "memory":
        fast = args.device.startswith("cuda")
        plans = [(64, 64, 3), (256, 12, 2)] if not fast else [(64, 512, 5), (256, 256, 5)]
        found["speed"] = [speed_table(size, args.device, 8 if quick else n, 1 if quick else r) for size, n, r in plans]
        for row in found["speed"]:  # type: ignore[attr-defined]
            print(
                f"R = {row['resolution']:4d}  {row['ratio']:.2f} × the walk (floor {FLOOR_SPEED})   "
                f"{row['panorama_mpx_s']:.3f} against {row['walk_mpx_s']:.3f} Mpx/s   "
                f"convolutions {row['share_of_convolutions']:.0%}", flush=True,
            )  # fmt: skip
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
                f"{row['long_strip_mb']} against {row['ten_frames_mb']} MB", flush=True,
            )  # fmt: skip
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
