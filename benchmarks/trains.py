"""Does it train? Painted scenes → `tiny` → ∞-FID of every snapshot, and how the pictures look.

    python benchmarks/trains.py paint data/painted64                     2,400 scenes of the sandbox, two squares each
    alis train --data data/painted64 --config tiny --out runs/painted --run.keep 1000
    python benchmarks/trains.py measure runs/painted data/painted64      → benchmarks/results/trains.json and .jpg

Features are EfficientNet-Lite0's, 500 painted against 500 real pictures: figures compare with each other only.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from alis import metrics
from alis.metrics import EvaluationPlan
from alis.models import load
from alis.training.monitor import machine

ROOT = Path(__file__).parents[1]
SEED = 7
DARK = {"night", "storm", "blue hour"}


def paint(out: Path, num_scenes: int, size: int) -> None:
    """Two squares of each daylight scene, painted small, as a Parquet dataset."""
    from lhq.sandbox import scenes, uploads

    rng, rows = np.random.default_rng(SEED), []
    for scene in scenes.catalogue(SEED, num_scenes):
        if scene.kind != "clean" or DARK & set(scene.tags):
            continue
        picture = uploads.paint(replace(scene, width_px=396, height_px=264, orientation=1)).image
        for left in (rng.integers(66), rng.integers(66, 132)):
            buffer = io.BytesIO()
            box = (left, 0, left + 264, 264)
            picture.resize((size, size), Image.Resampling.LANCZOS, box=box).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": f"scene-{scene.index}-{left}.png"})
    rng.shuffle(rows)
    (out / "data").mkdir(parents=True)
    table = pa.table({"image": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    pq.write_table(table, out / "data" / "train-00000-of-00001.parquet", row_group_size=256)
    print(f"{len(rows)} pictures")


def measure(run: Path, data: str, num: int, at: list[int] | None, out: Path) -> None:
    """∞-FID of the run's snapshots, and a picture: one strip a row, oldest first."""
    plan = EvaluationPlan(("inf-fid",), num=num, num_real=num, features="lite0", seed=1)
    snapshots = sorted(path.parent for path in run.glob("snapshots/*/config.json"))
    chosen = [folder for folder in snapshots if not at or int(folder.name) in at]
    points, strips = [], []
    for folder in chosen:
        value = _known(folder, plan)
        if value is None:
            value = metrics.measure(load(folder), data, plan).figures["inf-fid"]
        points.append({"images": int(folder.name), "inf-fid": round(value, 2)})
        strips.append(Image.open(folder / "strip.png").convert("RGB"))
        print(points[-1], flush=True)
    told = json.loads((run / "run.json").read_text())
    record = {
        "what": f"∞-FID of {num} frames against {num} real pictures, features {plan.features}",
        "points": points,
        "data": told["data"]["num_images"],
        "config": told["config"],
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    picture = Image.new("RGB", (strips[0].width, sum(strip.height + 4 for strip in strips) - 4), (255, 255, 255))
    for row, strip in enumerate(strips):
        picture.paste(strip, (0, row * (strip.height + 4)))
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC).save(
        out.with_suffix(".jpg"), quality=88
    )


def _known(folder: Path, plan: EvaluationPlan) -> float | None:
    """What `alis evaluate` already found with the same plan."""
    path = folder / "evaluation.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        record = json.loads(line)
        if record.get("num") == plan.num and (record["features"], record["seed"]) == (plan.features, plan.seed):
            return float(record["inf-fid"])
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    painting = commands.add_parser("paint")
    painting.add_argument("out", type=Path)
    painting.add_argument("--scenes", type=int, default=4800)
    painting.add_argument("--size", type=int, default=64)
    measuring = commands.add_parser("measure")
    measuring.add_argument("run", type=Path)
    measuring.add_argument("data")
    measuring.add_argument("--num", type=int, default=500)
    measuring.add_argument("--at", type=int, nargs="*", help="images of the snapshots to measure; default: all")
    measuring.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "trains.json")
    asked = parser.parse_args()
    if asked.command == "paint":
        paint(asked.out, asked.scenes, asked.size)
    else:
        measure(asked.run, asked.data, asked.num, asked.at, asked.out)


if __name__ == "__main__":
    main()
