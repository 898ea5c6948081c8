"""All pairs of 64-bit hashes within 5 bits, exactly: `near_pairs` beside faiss, and its growth from 10⁴ to 10⁷.

    python benchmarks/near_pairs.py [--sizes 10000 100000 450000 …] [--peer-most 450000]

Peers run where faiss-cpu is installed: IndexBinaryFlat (exact) and IndexBinaryMultiHash (4 x 16 bits with 2 flips,
which at radius 5 finds all by the pigeonhole: of four 16-bit parts one differs in at most one bit). Both answer one
query a hash, so every pair is found twice. Hashes are uniform with one in ten within 3 bits of another.
Memory is the growth of the process's peak. Sizes can be run in parts: each replaces its own rows of the result.
Floors: 450,000 in 3 s, 10 million in 120 s, 100 bytes a hash.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import small

from lhq.measures.duplicates import near_pairs

RESULT = Path(__file__).parent / "results/near_pairs.json"
RADIUS = 5
SIZES = (10_000, 100_000, 450_000, 1_000_000, 4_500_000, 10_000_000)


def hashes(num: int) -> np.ndarray:
    rng = np.random.default_rng(num)
    out = rng.integers(0, 2**64, num, dtype=np.uint64)
    near = num // 10
    out[:near] = out[near : 2 * near]
    for _ in range(3):
        out[:near] ^= np.uint64(1) << rng.integers(0, 64, near, dtype=np.uint64)
    return rng.permutation(out)


def peer(kind: str, given: np.ndarray) -> tuple[float, int]:
    """(seconds, pairs) of one faiss index."""
    import faiss

    codes = np.ascontiguousarray(given[:, None]).view(np.uint8)
    index = faiss.IndexBinaryFlat(64) if kind == "flat" else faiss.IndexBinaryMultiHash(64, 4, 16)
    if kind != "flat":
        index.nflip = 1
    start = time.perf_counter()
    index.add(codes)
    found = 0
    for at in range(0, len(codes), 50_000):
        limits, _, _ = index.range_search(codes[at : at + 50_000], RADIUS + 1)  # faiss's radius is exclusive
        found += int(limits[-1])
    return time.perf_counter() - start, (found - len(given)) // 2


def alone(num: int) -> dict[str, float]:
    """One size in a process of its own, so that its peak memory is its own."""
    code = f"import near_pairs as b; b.child({num})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(num: int) -> None:
    given = hashes(num)
    near_pairs(given[:2000], RADIUS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before_bytes = 1024 * _status("VmRSS")
    start = time.perf_counter()
    pairs = near_pairs(given, RADIUS)
    seconds = time.perf_counter() - start
    peak_bytes = 1024 * _status("VmHWM")
    print(
        json.dumps(
            {"hashes": num, "pairs": len(pairs), "seconds": seconds, "bytes_a_hash": (peak_bytes - before_bytes) / num}
        )
    )


def _status(name: str) -> int:
    """One figure of /proc/self/status, in kB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--peer-most", type=int, default=450_000)
    asked = small.parse(parser, sizes=[10_000, 100_000])
    rows = []
    print(f"{'hashes':>12} {'seconds':>9} {'µs a hash':>10} {'bytes a hash':>13} {'pairs':>10}   peers, times slower")
    for num in asked.sizes:
        row: dict[str, object] = dict(alone(num))
        beside = []
        if num <= asked.peer_most:
            try:
                for kind in ("multi-hash", "flat"):
                    seconds, pairs = peer(kind, hashes(num))
                    row[f"faiss_{kind}"] = {"seconds": seconds, "pairs": pairs, "times": seconds / row["seconds"]}  # type: ignore[operator]
                    beside.append(f"faiss {kind} {seconds / row['seconds']:.1f} x ({seconds:.1f} s, {pairs} pairs)")  # type: ignore[operator]
            except ImportError:
                beside.append("faiss-cpu is not installed")
        rows.append(row)
        each = row["seconds"] / num * 1e6  # type: ignore[operator]
        print(
            f"{num:12,} {row['seconds']:9.2f} {each:10.2f} {row['bytes_a_hash']:13.0f} {row['pairs']:10,}   "
            f"{', '.join(beside)}",
            flush=True,
        )
    path = asked.results / RESULT.name
    if path.is_file():
        rows += [row for row in json.loads(path.read_text())["rows"] if row["hashes"] not in asked.sizes]
    rows.sort(key=lambda row: row["hashes"])  # type: ignore[arg-type,return-value]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "radius": RADIUS,
        "rows": rows,
        "floors": {"450000": 3, "10000000": 120, "bytes_a_hash": 100},
    }
    (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
