"""Each part of the recipe for a CPU, alone and with others, from the first image on, at equal processor seconds.

    python benchmarks/trains.py paint data/painted64
    python benchmarks/recipes.py data/painted64 --seconds 240         → benchmarks/results/recipes.json and .jpg
    python benchmarks/recipes.py data/painted64 --only all latents1-batch16

One core, one seed, one recipe after the other. A recipe's seconds are the processor's, so that other work beside it
costs it no images; starting Python is among them. What is done stays done: the same command goes on with the next
recipe (one that was cut short begins again), and judges anew what was judged otherwise. Judged by extractors that no
training here sees (benchmarks/judges.py), and for the eye two strips a recipe, seeds 3 and 7, without noise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import judges
import numpy as np
import torch
from PIL import Image, ImageDraw

import alis
from alis.models.model_folder import find

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "recipes.json"

Flags = dict[str, str]
COMMON: Flags = {
    "config": "tiny",
    "projected.size": "64",
    "run.kimg": "100000",
    "run.tick-kimg": "0.5",
    "run.snapshot-ticks": "100000",
    "run.snapshot-minutes": "1000",
    "run.seed": "1",
    "device": "cpu",
}
# `tiny` as it was before the plane: patches that know nothing of each other, the published start, one discriminator.
BEFORE: Flags = {
    "model.padding": "replicate",
    "model.local-latents": "0",
    "model.start": "published",
    "loss.frames-at": "patch",
    "loss.discriminators": "residual",
}
START: Flags = {"model.start": "unit"}
PLANE: Flags = {"model.padding": "plane", "loss.frames-at": "pixel"}
LATENTS: Flags = {**PLANE, "model.local-latents": "0.5"}  # they need the plane
PROJECTED: Flags = {"loss.discriminators": "projected"}
BOTH: Flags = {"loss.discriminators": "both"}
SEAMLESS: Flags = {**START, **LATENTS}
ALL: Flags = {**SEAMLESS, **BOTH}
WINNER: Flags = {**ALL, "model.local-latents": "1"}  # what repeats nothing; the demo model and the dial train so
RECIPES: dict[str, Flags] = {
    "before": {},
    "all": ALL,
    "seamless": SEAMLESS,
    "both": BOTH,
    "projected": PROJECTED,
    "start": START,
    "plane": PLANE,
    "latents": LATENTS,
    "seamless-projected": {**SEAMLESS, **PROJECTED},
    "all-latents1": WINNER,
    "latents1-batch4": {**WINNER, "optim.batch": "4"},
    "latents1-batch16": {**WINNER, "optim.batch": "16"},
    "latents1-lr0.0025": {**WINNER, "optim.lr-g": "0.0025"},
    "latents1-lr0.01": {**WINNER, "optim.lr-g": "0.01"},
    "latents1-narrow": {**WINNER, "model.channel-base": "512", "model.channel-max": "64"},
    "latents1-wide": {**WINNER, "model.channel-base": "2048", "model.channel-max": "256"},
    # The average's half-life is that share of the images seen so far; 0.05 otherwise.
    "latents1-ema0.01": {**WINNER, "ema.ramp-up": "0.01"},
    "latents1-ema0.2": {**WINNER, "ema.ramp-up": "0.2"},
    "latents1-128px": {**WINNER, "model.resolution": "128"},
    # Named by --only, with --seconds 3600: rates that have fallen when the hour is over.
    "hour": {
        **WINNER,
        "optim.lr-g": "0.004",
        "optim.lr-end": "0.05",
        "run.kimg": "56",
        "run.snapshot-ticks": "8",
    },
    "hour-narrow": {
        **WINNER,
        "model.channel-base": "512",
        "model.channel-max": "64",
        "optim.batch": "16",
        "optim.lr-end": "0.02",
        "ema.ramp-up": "0.1",
        "run.kimg": "94",
        "run.snapshot-ticks": "8",
    },
    "hour-narrow-190k": {
        **WINNER,
        "model.channel-base": "512",
        "model.channel-max": "64",
        "optim.batch": "16",
        "optim.lr-end": "0.02",
        "ema.ramp-up": "0.1",
        "run.kimg": "190",
        "run.snapshot-ticks": "8",
    },
    "hour-narrow-batch8": {
        **WINNER,
        "model.channel-base": "512",
        "model.channel-max": "64",
        "optim.lr-end": "0.02",
        "ema.ramp-up": "0.1",
        "run.kimg": "94",
        "run.snapshot-ticks": "8",
    },
}


def train(name: str, flags: Flags, data: str, seconds: float, folder: Path) -> float:
    """Train until the process has used `seconds` of processor time, and let it save; the seconds it took in all."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "alis", "train", "--data", data, "--out", str(folder / "run")]
    for key, value in (COMMON | BEFORE | flags).items():
        words += [f"--{key}", value]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        try:
            while not ended and used(process.pid) < seconds:
                time.sleep(0.2)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        finally:
            if not ended:
                os.kill(process.pid, signal.SIGTERM)
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name}: training ended with {process.returncode}, see {folder / 'log.txt'}")
    return usage.ru_utime + usage.ru_stime


def used(pid: int) -> float:
    """Processor seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sheet(names: list[str], folder: Path, out: Path) -> None:
    """Two strips of ten frames a recipe, its name beside them."""
    rows = []
    for name in names:
        g = alis.load(str(folder / name / "run"))
        width = 10 * g.config.resolution
        for seed in (3, 7):
            pixels = np.asarray(alis.Panorama(g, seed, noise="none")[0:width])
            row = Image.new("RGB", (width + 120, g.config.resolution + 3), (255, 255, 255))
            row.paste(Image.fromarray(pixels), (120, 0))
            if seed == 3:
                ImageDraw.Draw(row).text((4, 24), name, fill=(0, 0, 0))
            rows.append(row)
    picture = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), (255, 255, 255))
    at = 0
    for row in rows:
        picture.paste(row, (0, at))
        at += row.height
    picture.save(out, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--data-128", help="the same scenes at 128 px, for the recipes named so")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--only", nargs="*", choices=[*RECIPES], metavar="RECIPE", help=", ".join(RECIPES))
    parser.add_argument("--num", type=int, default=1000, help="frames in a draw that is compared")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "recipes")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    judge = judges.Judge(asked.data, num=asked.num, features=["random", "detector"], num_strips=4)
    rows: dict[str, dict[str, Any]] = {}
    if asked.out.is_file():
        rows = {row["model"]: row for row in json.loads(asked.out.read_text())["rows"]}
    rows["real pictures"] = judge.row_of_reals()
    for name in asked.only or [name for name in RECIPES if not name.startswith("hour")]:
        row = rows.get(name, {})
        trained = row.get("seconds") == asked.seconds
        if trained and row.get("judged") == judge.what:
            continue
        data = asked.data_128 if "128px" in name else asked.data
        if not data:
            print(f"{name}: left out, it needs --data-128")
            continue
        folder = asked.runs / name
        took = row["took"] if trained else train(name, RECIPES[name], data, asked.seconds, folder)
        row = judge.row(str(find(str(folder / "run")))) | {"model": name, "judged": judge.what}
        rows[name] = row | {"seconds": asked.seconds, "took": round(took, 1), "flags": BEFORE | RECIPES[name]}
        print(json.dumps(rows[name]), flush=True)
        record = judge.record(list(rows.values())) | {"common": COMMON}
        part = asked.out.with_suffix(".part")
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        part.replace(asked.out)
        shown = [one for one in RECIPES if one in rows]
        gone = [one for one in shown if not (asked.runs / one / "run").is_dir()]
        if gone:
            print(f"{asked.out.with_suffix('.jpg')} stays as it is: {asked.runs} has no {', '.join(gone)}")
        else:
            sheet(shown, asked.runs, asked.out.with_suffix(".jpg"))


if __name__ == "__main__":
    main()
