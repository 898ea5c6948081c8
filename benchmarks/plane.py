"""What a plane without seams costs beside patches without a halo: one tile, one frame, a strip; and a strip's memory.

    OMP_NUM_THREADS=2 python benchmarks/plane.py                   both sizes, about five minutes on two cores
    OMP_NUM_THREADS=2 python benchmarks/plane.py --sizes 256       one of them
    python benchmarks/plane.py --quick                             a small network, to see that it runs

The peer is the same network as it was published: `padding = "zeros"`, waves alone. Ours is the recipe with `-seamless`
in its name: filters see the plane, and half of the waves along x are local latents, which are drawn anew at every call.
Both take turns, a tile, a frame and a piece of the strip at a time, so that what else the machine does falls on both;
the least of each counts, and of the strip the median of its pieces times their number, after two that are not counted.
`counted` is the ratio of what both multiply (`alis.models.cost`), which no program could go below; `of_product` is the
time that a matrix product of as many operations takes, over ours. Bars: a strip 1.03, a frame 1.2, a tile 1.45 times
the patches' time; the memory of a strip 1.15 times that of ten frames.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import small

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import panorama  # noqa: E402  (the rate of a matrix product, peak memory)
import torch  # noqa: E402

import alis  # noqa: E402
from alis.config import ModelConfig  # noqa: E402
from alis.models.cost import generator_cost  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "plane.json"
SIZES = {64: 4096, 256: 16384, 1024: 32768}
BARS = {"tile": 1.45, "frame": 1.2, "strip": 1.03}
Row = dict[str, str | int | float]


def painters(resolution: int) -> tuple[alis.Generator, alis.Generator]:
    """The plane's network and the patches', random weights: what they cost does not depend on what was learned."""
    patches = ModelConfig(resolution=resolution, channel_base=SIZES[resolution])
    plane = patches.model_copy(update={"padding": "plane", "local_latents": 0.5, "start": "unit"})
    torch.manual_seed(0)
    ours, theirs = (alis.Generator(config).eval().requires_grad_(False) for config in (plane, patches))
    for g in (ours, theirs):
        for name, parameter in g.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.1)
    return ours, theirs


def seconds(run: Callable[[], object]) -> float:
    """Of the processor for one thread, so that other work on the machine counts less; else of the wall."""
    clock = panorama.clock_of("cpu")
    started = clock()
    run()
    return clock() - started


def frame_of(g: alis.Generator) -> Callable[[], object]:
    """A frame as users ask for one, with fresh noise."""
    w = [g.map(torch.randn(1, g.config.z_dim)) for _ in range(3)]
    return lambda: g(*w, 1, noise="random")


def times(resolution: int, num_frames: int, rounds: int) -> Iterator[Row]:
    """Ours and theirs in turn for a tile, a frame and a strip."""
    networks = painters(resolution)
    planes = [alis.Panorama(g, 7) for g in networks]
    tile_px = planes[0].tile_px
    single: dict[str, list[Callable[[], object]]] = {
        "tile": [lambda plane=plane: plane.tile(3) for plane in planes],  # type: ignore[misc]
        "frame": [frame_of(g) for g in networks],
    }
    rate = panorama.best_flops("cpu")
    for what, pair in single.items():
        for run in pair:
            run()
        taken = [[seconds(run) for run in pair] for _ in range(rounds)]
        width = tile_px if what == "tile" else resolution
        yield row(what, resolution, width, *map(min, zip(*taken, strict=True)), rate)
    # Blocks are painted whole, so a piece is one of the longer kind.
    piece = max(plane.batch for plane in planes) * tile_px
    width = max(num_frames * resolution // piece, 1) * piece
    pieces: list[list[float]] = [[], []]
    for start in range(-2 * piece, width, piece):
        for which, plane in enumerate(planes):
            taken_s = seconds(lambda plane=plane, start=start: list(plane.blocks(start, start + piece)))  # type: ignore[misc]
            # The first two pieces are where the process takes the memory that it then keeps.
            pieces[which] += [taken_s] if start >= 0 else []
    whole = [statistics.median(taken_s) * len(taken_s) for taken_s in pieces]
    rate = max(rate, panorama.best_flops("cpu"))
    yield row("strip", resolution, width, *whole, rate, block=planes[0].batch * tile_px)


def row(
    what: str, resolution: int, width: int, ours: float, theirs: float, rate: float, block: int | None = None
) -> Row:
    """A line of the table. A strip is painted in blocks, each with the columns beside it: so its counted cost."""
    plane, patches = (g.config for g in _meta(resolution))
    one = block or width
    flops = generator_cost(plane, one).flops * (width / one)
    counted = flops / generator_cost(patches, width).flops
    return {
        "what": what,
        "resolution": resolution,
        "width_px": width,
        "ratio": round(ours / theirs, 3),
        "bar": BARS[what],
        "counted": round(counted, 3),
        "plane_s": round(ours, 4),
        "patches_s": round(theirs, 4),
        "gflops": round(flops / 1e9, 2),
        "of_product": round(flops / rate / ours, 3),
    }


def _meta(resolution: int) -> tuple[alis.Generator, alis.Generator]:
    with torch.device("meta"):
        return painters(resolution)


def main() -> int:
    """Measure, print, write benchmarks/results/plane.json; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=[64, 256, 1024], default=[256, 1024])
    parser.add_argument("--frames", type=int, default=40, help="of the strip")
    parser.add_argument("--rounds", type=int, default=5, help="of tile and frame")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 measures processor time")
    args = small.parse(parser)
    torch.set_num_threads(args.threads)
    sizes, num_frames, rounds = ([64], 64, 2) if args.quick else (args.sizes, args.frames, args.rounds)
    rows: list[Row] = []
    with torch.inference_mode():
        for size in sizes:
            for found in times(size, num_frames, rounds):
                rows.append(found)
                print(" · ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    width = 8_000 if args.quick else 100_000
    memory = panorama.memory_table(64, width, ".png", "cpu", padding="plane")
    print(" · ".join(f"{key} {value}" for key, value in memory.items()), flush=True)
    missed = [f"{one['what']} {one['resolution']}" for one in rows if float(one["ratio"]) > float(one["bar"])]
    print("bars missed: " + ", ".join(missed) if missed else "every bar held")
    told = {
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "rows": rows if args.quick else kept(rows) + rows,
        "memory": memory,
    }
    (args.results / RESULT.name).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 1 if missed else 0


def kept(rows: list[Row]) -> list[Row]:
    """What an earlier run measured of other sizes."""
    before = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    new = {one["resolution"] for one in rows}
    return [one for one in before if one["resolution"] not in new]


if __name__ == "__main__":
    sys.exit(main())
