"""The outlier measure's streamed Gaussian against numpy's covariance and scipy's density, both float64 in memory.

    python benchmarks/outliers.py [--photos 20000] [--features 2048]

Features are correlated and far from zero, as a network's are. Floors: log-likelihoods equal to 1e-8 relative, no
slower than the reference, and a peak of memory that does not grow with the number of photos.
Writes benchmarks/results/outliers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import small
from scipy.stats import multivariate_normal

from lhq.measures.gaussian import Gaussian, Moments

RESULT = Path(__file__).parent / "results" / "outliers.json"
BATCH = 512


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=2048)
    given = small.parse(parser, photos=2_000, features=512)
    num, size = given.photos, given.features
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(size, size)).astype(np.float32) / np.sqrt(size)

    def features(start: int, stop: int) -> np.ndarray:
        draw = np.random.default_rng(start + 1).normal(size=(stop - start, size)).astype(np.float32)
        return np.maximum(draw @ mix + 0.4, 0) + 0.1 * draw

    spans = [(start, min(start + BATCH, num)) for start in range(0, num, BATCH)]
    new = features(10**9, 10**9 + 1000).astype(np.float64)
    rows = np.concatenate([features(*span) for span in spans])  # the reference's memory, and both's input

    tracemalloc.start()
    start = time.perf_counter()
    moments = Moments(size)
    for first, last in spans:
        moments.add(rows[first:last])
    gaussian = Gaussian.fit(moments)
    ours = gaussian.log_likelihood(new)
    ours_s = time.perf_counter() - start
    ours_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()

    tracemalloc.start()
    start = time.perf_counter()
    covariance = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
    rho = gaussian.shrinkage
    shrunk = (1 - rho) * covariance + rho * np.trace(covariance) / size * np.eye(size)
    theirs = multivariate_normal(rows.mean(0, dtype=np.float64), shrunk).logpdf(new)
    theirs_s = time.perf_counter() - start
    theirs_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()

    worst = float(np.max(np.abs(ours - theirs) / np.abs(theirs)))
    result = {
        "date": date.today().isoformat(),
        "hardware": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "photos": num,
        "features": size,
        "worst_relative_difference": worst,
        "reference_time_over_ours": round(theirs_s / ours_s, 2),
        "ours_s": round(ours_s, 2),
        "reference_s": round(theirs_s, 2),
        "ours_peak_mb": round(ours_mb),
        "reference_peak_mb": round(theirs_mb),
        "shrinkage": gaussian.shrinkage,
        "floor": "worst <= 1e-8, reference time over ours >= 1",
    }
    (given.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")
    print(f"log-likelihood of 1,000 photos after {num:,} x {size}: worst relative difference {worst:.1e}")
    print(
        f"reference / ours   {theirs_s / ours_s:.2f}   ({ours_s:.1f} s at {ours_mb:.0f} MB, "
        f"reference {theirs_s:.1f} s at {theirs_mb:.0f} MB)"
    )
    return 0 if worst <= 1e-8 and theirs_s >= ours_s else 1


if __name__ == "__main__":
    sys.exit(main())
