"""How long a painted scene of the sandbox takes, from nothing to its stored bytes.

    python benchmarks/painter.py [--scenes 60]

Processor seconds of one core, by kind, over unseen scenes. The floor: 0.3 s a scene at the mean, painted and encoded.
Writes benchmarks/results/painter.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path

import small

from lhq.sandbox import scenes, uploads

RESULT = Path(__file__).parent / "results" / "painter.json"
SEED = 600_000  # neither training's, nor the demo's, nor the detector's
FLOOR_S = 0.3


def measure(kind: scenes.Kind, count: int) -> dict[str, float]:
    """Processor seconds of `count` scenes of one kind."""
    found = [scene for scene in scenes.catalogue(SEED, count * 8) if scene.kind == kind][:count]
    uploads.encode(found[0])  # the noise tiles are made once a process
    took, megapixels, size_bytes = [], 0.0, 0
    for scene in found:
        began = time.process_time()
        size_bytes += len(uploads.encode(scene))
        took.append(time.process_time() - began)
        megapixels += scene.width_px * scene.height_px / 1e6
    took.sort()
    return {
        "scenes": count,
        "mean_s": round(sum(took) / count, 3),
        "median_s": round(took[count // 2], 3),
        "most_s": round(took[-1], 3),
        "mean_megapixels": round(megapixels / count, 2),
        "mean_kilobytes": round(size_bytes / count / 1000),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--scenes", type=int, default=60, help="of each kind")
    given = small.parse(parser, scenes=6)
    result: dict[str, object] = {
        "date": date.today().isoformat(),
        "machine": f"1 of {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": f"python benchmarks/painter.py --scenes {given.scenes}",
        "load": round(os.getloadavg()[0], 1),
        "floor_s": FLOOR_S,
    }
    rows = {kind: measure(kind, given.scenes) for kind in ("clean", "objects")}
    for kind, row in rows.items():
        print(f"{kind:8} " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    (given.results / RESULT.name).write_text(json.dumps(result | rows, indent=1) + "\n")
    return 0 if all(row["mean_s"] <= FLOOR_S for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
