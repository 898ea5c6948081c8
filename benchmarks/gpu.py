"""Everything that needs a GPU, in one command of at most seven minutes; every part is on disk as soon as it is known.

    python benchmarks/gpu.py pack data/painted128 gpu_data      squares and the frozen network, on any machine
    python benchmarks/gpu.py run gpu_data --out gpu             on the GPU: torch, triton, numpy, Pillow

Parts: kernels against their references; bandwidth of `align` and `bias_act` beside a copy; painted frames a second;
training images a second, with and without CUDA graphs and with plain PyTorch; then the demo's recipe for the time that
is left, whose snapshot `alis.load` opens. `run` on a machine without a GPU goes through the same parts, small.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
import stand_ins  # noqa: E402

MISSING = stand_ins.install()

from alis import ops  # noqa: E402
from alis.config import ModelConfig  # noqa: E402
from alis.models import Generator, model_folder, sampling  # noqa: E402
from alis.ops import dispatch  # noqa: E402
from alis.training import losses, recipe, step  # noqa: E402

SECONDS = 410.0
BEGAN = time.monotonic()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IS_GPU = DEVICE.type == "cuda"


class Record:
    """gpu.json, written anew after every part."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / "gpu.json"
        name = torch.cuda.get_device_name() if IS_GPU else "no GPU: a rehearsal"
        self.table: dict[str, Any] = {"device": name, "torch": torch.__version__, "missing": MISSING}
        self.table["at"] = datetime.now(UTC).isoformat(timespec="seconds")

    def add(self, part: str, found: Any) -> None:
        self.table[part] = found
        self.table["seconds"] = round(time.monotonic() - BEGAN, 1)
        self.path.write_text(json.dumps(self.table, indent=1) + "\n")
        print(f"{self.table['seconds']:6.1f} s  {part}: {json.dumps(found)[:600]}", flush=True)

    def run(self, part: str, what: Callable[[], Any]) -> None:
        """A part that fails costs itself: the error is its result."""
        try:
            self.add(part, what())
        except Exception as error:  # whatever a kernel, a driver or memory raises
            self.add(part, {"failed": f"{type(error).__name__}: {str(error)[:400]}"})


def timed(run: Callable[[], object], seconds: float = 1.0, most: int = 200) -> float:
    """Median seconds of a call, after a first one."""
    times: list[float] = []
    run()
    end = time.monotonic() + (seconds if IS_GPU else 0.2)
    while time.monotonic() < end and len(times) < most:
        _wait()
        began = time.perf_counter()
        run()
        _wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times or [float("nan")])


def _wait() -> None:
    if IS_GPU:
        torch.cuda.synchronize()


def kernels() -> dict[str, float]:
    """Largest difference of an operation and of its two gradients from the reference, in shares of its largest."""
    found: dict[str, float] = {}
    styles, shares = torch.randn(4, 2, 32, device=DEVICE), torch.rand(4, 2, 24, device=DEVICE)
    shares = (shares / shares.sum(dim=1, keepdim=True)).double()
    bias, noise = torch.randn(32, device=DEVICE), torch.randn(4, 1, 16, 24, device=DEVICE)
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        "align": lambda x: ops.align(x, styles, shares),
        "bias_act": lambda x: ops.bias_act(x, bias, noise.to(x.dtype), clamp=1.5),
        "up2": ops.up2,
        "down2": ops.down2,
        "blur": lambda x: ops.blur(x, 2),
    }
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            for name, run in runs.items():
                x = torch.randn(4, 32, 16, 24, device=DEVICE).to(dtype).contiguous(memory_format=layout)
                both = []
                for wanted in (True, False):
                    dispatch.use_triton(wanted)
                    own = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
                    y = run(own)
                    (first,) = torch.autograd.grad(y.float().square().sum(), own, create_graph=True)
                    (second,) = torch.autograd.grad(first.float().square().sum(), own)
                    both.append((y, first, second))
                dispatch.use_triton(True)
                worst = max(
                    float((a - b).detach().float().abs().max() / b.detach().float().abs().max().clamp(min=1e-6))
                    for a, b in zip(*both, strict=True)
                )
                key = f"{name} {dtype} {'channels last' if layout == torch.channels_last else 'rows last'}"
                found[key.replace("torch.", "")] = float(f"{worst:.2g}")
    return found


def bandwidth() -> dict[str, float]:
    """GB/s read and written, and the share of a plain copy's."""
    found = {}
    shape = (8, 64, 512, 512) if IS_GPU else (1, 8, 64, 64)
    for dtype in (torch.float16, torch.float32):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(shape, device=DEVICE).to(dtype).contiguous(memory_format=layout)
            styles = torch.randn(shape[0], 2, shape[1], device=DEVICE)
            shares, bias = torch.rand(shape[0], 2, shape[3], device=DEVICE), torch.randn(shape[1], device=DEVICE)
            out, moved = torch.empty_like(x), 2 * x.numel() * x.element_size() / 1e9
            with torch.no_grad():
                copy = moved / timed(lambda out=out, x=x: out.copy_(x))
                align = moved / timed(lambda x=x, s=styles, h=shares: ops.align(x, s, h))
                bend = moved / timed(lambda x=x, b=bias: ops.bias_act(x, b, clamp=256.0))
            key = f"{dtype} {'channels last' if layout == torch.channels_last else 'rows last'}".replace("torch.", "")
            found[f"copy {key} GB/s"] = round(copy)
            found[f"align {key} of copy"], found[f"bias_act {key} of copy"] = (
                round(align / copy, 3),
                round(bend / copy, 3),
            )
    return found


def painting() -> dict[str, float]:
    """Frames a second of the published generators, noise as stored."""
    found = {}
    for size, base, batch in ((256, 16384, 32), (1024, 32768, 4)) if IS_GPU else ((64, 512, 2),):
        for dtype in (torch.float16, torch.bfloat16):
            config = ModelConfig(resolution=size, channel_base=base, num_half_res=4)
            g = Generator(config).to(DEVICE).eval().requires_grad_(False).set_precision(dtype)
            w = torch.randn(3, batch, config.w_dim, device=DEVICE)
            with torch.inference_mode():
                seconds = timed(lambda g=g, w=w: g(*w, 1, noise="const"), 2.0)
            found[f"{size} px {dtype}".replace("torch.", "")] = round(batch / seconds, 1)
    return found


def settings(size: int, **changes: Any) -> recipe.TrainConfig:
    """The recipe that is timed: networks of the published width on a plane, all regularisers on, one discriminator."""
    base = {64: 4096, 128: 8192, 256: 16384}.get(size, 512)
    shape = {"resolution": size, "channel_base": base, "num_half_res": 0}
    tables: dict[str, dict[str, Any]] = {
        "model": {**shape, "padding": "plane", "local_latents": 1.0, "start": "unit"},
        "loss": {"frames_at": "column", "shift_ramp_kimg": 0, "r1_gamma": 1.0},
        "optim": {"batch": {64: 64, 128: 64, 256: 32}.get(size, 4)},
        "run": {"precision": "bfloat16", "half_from": 8, "channels_last": True},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tables.setdefault(section, {})[name] = value
    kinds = {name: type(value) for name, value in recipe.TrainConfig()}
    made = {section: kinds[section](**values) for section, values in tables.items() if section != "model"}
    return recipe.TrainConfig(model=ModelConfig(**tables["model"]), **made).resolved(1)


def average_step(config: recipe.TrainConfig) -> tuple[float, float]:
    """(images a second over all phases as often as they are paid, gigabytes at the peak)."""
    if IS_GPU:
        torch.cuda.reset_peak_memory_stats()
    s = step.build(config, DEVICE)
    one, size = step.Step(s, config), config.model.resolution
    reals = {0: torch.rand(one.micro, 3, size, size, device=DEVICE) * 2 - 1}
    runs: list[tuple[Callable[[], object], float]] = [
        (one.generator, 1.0),
        (lambda: one.discriminator(reals), 1.0),
        (lambda: losses.update_ema(s.ema, s.generator, 0.999), 1.0),
    ]
    if config.loss.pl_weight:
        runs.append((one.path_length, 1 / config.loss.pl_every))
    if one.has_r1:
        runs.append((lambda: one.r1(reals), 1 / config.loss.r1_every))
    seconds = 0.0
    for run, share in runs:
        for _ in range(5 if IS_GPU else 1):  # three as they come, one recorded, one replayed
            run()
        seconds += share * timed(run, 1.5, most=30)
    return config.optim.batch / seconds, torch.cuda.max_memory_allocated() / 1e9 if IS_GPU else 0.0


def training() -> dict[str, dict[str, float]]:
    """Images a second, ours with and without graphs, and plain PyTorch."""
    found: dict[str, dict[str, float]] = {}
    for size in (64, 128, 256) if IS_GPU else (32,):
        for name in ("graphs", "ours", "plain PyTorch"):
            dispatch.use_triton(name != "plain PyTorch")
            speed, memory = average_step(settings(size, run__graphs=name == "graphs" and IS_GPU))
            found.setdefault(f"{size} px", {})[name] = round(speed, 1)
            found[f"{size} px"][f"{name} GB"] = round(memory, 2)
    dispatch.use_triton(True)
    return found


def graphs_agree() -> dict[str, float]:
    """After eight steps with recorded phases and eight without: largest difference of a weight, and change of one."""
    ends, begin = [], None
    for is_recorded in (True, False):
        config = settings(64 if IS_GPU else 32, run__graphs=is_recorded and IS_GPU, run__precision="float32")
        s = step.build(config, DEVICE)
        begin = torch.cat([p.detach().flatten().clone() for p in s.generator.parameters()])
        one, size = step.Step(s, config), config.model.resolution
        for k in range(8):
            draw = torch.Generator(DEVICE).manual_seed(k)
            reals = {0: torch.rand(one.micro, 3, size, size, device=DEVICE, generator=draw) * 2 - 1}
            one.generator(), one.path_length(), one.discriminator(reals), one.r1(reals)
            s.images += one.micro
        ends.append(torch.cat([p.detach().flatten() for p in s.generator.parameters()]))
    a, b = ends
    return {"difference": float((a - b).abs().max()), "moved": float((b - begin).abs().max())}


def train(data: Path, out: Path, record: Record, seconds: float) -> None:
    """The demo's recipe on the packed squares until the time is over; a model folder and a strip a minute."""
    squares = torch.from_numpy(np.load(data / "squares.npy")).to(DEVICE)
    size = squares.shape[1]
    if (data / "lite0.pt").is_file():
        step.Lite0Stages = lambda: torch.load(data / "lite0.pt", map_location="cpu", weights_only=False)
        step.Lite0Stages.channels = (24, 40, 112, 320)
    batch = 32 if IS_GPU else 4
    config = settings(
        size,
        model__channel_base=8192 if IS_GPU else 512,
        model__num_half_res=0,
        loss__discriminators="both",
        loss__pl_weight=0.0,
        loss__style_mixing=0.0,
        loss__r1_gamma=size**2 / batch / 1000,
        optim__batch=batch,
        projected__size=min(size, 128),
        ema__half_life_kimg=10.0,
        run__graphs=IS_GPU,
    )
    s = step.build(config, DEVICE)
    one, began, saved = step.Step(s, config), time.monotonic(), 0
    for rows in _rows(len(squares), batch):
        figures: dict[str, Tensor] = {}
        figures["loss_g"], figures["sign_fake"] = one.generator()
        reals = {0: one.reals(squares[rows.to(DEVICE)], 0, mirror=True)}
        figures["loss_d"], figures["sign_real"] = one.discriminator(reals)
        if one.has_r1 and s.step % config.loss.r1_every == 0:
            one.r1(reals)
        losses.update_ema(s.ema, s.generator, losses.ema_beta(batch, s.images, config.ema.half_life_kimg, 0.05))
        s.images, s.step = s.images + batch, s.step + 1
        spent = time.monotonic() - began
        is_over = spent > seconds or s.images >= 400_000_000
        if is_over or spent // 60 > saved:
            saved = int(spent // 60)
            model_folder.save(out / "model", s.ema, s.discriminator, trained=s.generator, notes={"images": s.images})
            _strip(s.ema, out / f"strip{s.images:08d}.png")
            told = {name: round(float(value), 4) for name, value in figures.items()}
            record.add("trained", {"images": s.images, "images/s": round(s.images / spent, 1), **told})
        if is_over:
            return


def _rows(num: int, batch: int) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(0)
    while True:
        yield from torch.randperm(num, generator=draw).split(batch)[: num // batch]


def _strip(g: Generator, path: Path) -> None:
    strip = sampling.to_uint8(sampling.strip(g, 8)).permute(1, 2, 0).cpu().numpy()
    Image.fromarray(np.ascontiguousarray(strip)).save(path)


def pack(dataset: Path, out: Path) -> None:
    """A dataset's pictures as one array of decoded squares, and the frozen network with its weights."""
    import pyarrow.parquet as pq

    from alis.features.efficientnet_lite import Lite0Stages

    out.mkdir(parents=True, exist_ok=True)
    rows = [row for path in sorted(dataset.rglob("*.parquet")) for row in pq.read_table(path)["image"].to_pylist()]
    np.save(
        out / "squares.npy", np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows])
    )
    torch.save(Lite0Stages(), out / "lite0.pt")
    print(f"{len(rows)} squares and the frozen network in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("dataset", type=Path)
    packing.add_argument("out", type=Path)
    running = commands.add_parser("run")
    running.add_argument("data", type=Path)
    running.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu")
    running.add_argument("--seconds", type=float, default=SECONDS, help="for everything together")
    asked = parser.parse_args()
    if asked.command == "pack":
        pack(asked.dataset, asked.out)
        return
    record = Record(asked.out)
    record.run("kernels", kernels)
    record.run("bandwidth", bandwidth)
    record.run("frames/s", painting)
    record.run("graphs agree", graphs_agree)
    record.run("training images/s", training)
    left = asked.seconds - (time.monotonic() - BEGAN)
    record.run("end", lambda: train(asked.data, asked.out, record, left))


if __name__ == "__main__":
    main()
