"""One trained model → FID and ∞-FID with several seeds: on a plane without seams both measure the same distribution.

    python benchmarks/agreement.py MODEL DATA [--num 400] [--seeds 5] [--features random detector]

FID takes frames as training sees them, in windows of their own; ∞-FID cuts them anywhere out of endless panoramas. The
real pictures are the same in all, so what differs is the sample. `apart` is the distance of the two means in standard
errors of their difference, two or less where they agree. The peer is a model whose patches know nothing of each other
(`--peer`): its frames as training sees them begin at patch borders. Writes benchmarks/results/agreement.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import alis  # noqa: E402
from alis import metrics  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "agreement.json"


def agreement(model: str, data: str, features: str, num: int, seeds: int) -> dict[str, object]:
    """Both figures for every seed, and how far apart their means are."""
    g = alis.load(model)
    found: dict[str, list[float]] = {"fid": [], "inf-fid": []}
    for seed in range(seeds):
        plan = metrics.EvaluationPlan(metrics=tuple(found), num=num, features=features, seed=seed)
        figures = metrics.measure(g, data, plan).figures
        for name, values in found.items():
            values.append(round(figures[name], 3))
        print(f"{features} seed {seed}: " + ", ".join(f"{name} {v[-1]:.2f}" for name, v in found.items()), flush=True)
    mean = {name: statistics.mean(values) for name, values in found.items()}
    spread = {name: statistics.stdev(values) for name, values in found.items()}
    error = math.sqrt(sum(deviation**2 / seeds for deviation in spread.values()))
    return {
        "padding": g.config.padding,
        "resolution": g.config.resolution,
        "features": features,
        "num": num,
        "fid": found["fid"],
        "inf_fid": found["inf-fid"],
        "fid_mean": round(mean["fid"], 2),
        "inf_fid_mean": round(mean["inf-fid"], 2),
        "fid_spread": round(spread["fid"], 2),
        "inf_fid_spread": round(spread["inf-fid"], 2),
        "apart": round(abs(mean["fid"] - mean["inf-fid"]) / error, 2),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--peer", help="a model of independent patches")
    parser.add_argument("--num", type=int, default=400, help="frames of each figure")
    parser.add_argument("--seeds", type=int, default=5, help="two or more")
    parser.add_argument("--features", nargs="+", default=["random", "detector"])
    args = parser.parse_args()
    rows = []
    for model in [args.model] + ([args.peer] if args.peer else []):
        for features in args.features:
            rows.append(agreement(model, args.data, features, args.num, args.seeds))
            print(rows[-1], flush=True)
            told = {"date": datetime.date.today().isoformat(), "model": args.model, "rows": rows}
            RESULT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
