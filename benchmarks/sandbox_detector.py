"""How many unseen painted scenes with objects the sandbox's detector drops, and how many clean ones.

    python benchmarks/sandbox_detector.py [--scenes 300]

Scenes go through their stored bytes, as in a crawl. The floor: at least 95 % of the scenes with objects are
dropped, at most 3 % of the clean ones. Writes benchmarks/results/sandbox_detector.json.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import small
import torch
from PIL import Image, ImageOps

from lhq.sandbox import detector, scenes, uploads

RESULT = Path(__file__).parent / "results" / "sandbox_detector.json"
SEED = 500_000  # neither training's nor the demo's


def stored(scene: scenes.Scene, work: Path | None) -> bytes:
    """The scene's bytes, kept in `work` from run to run."""
    if work is None:
        return uploads.encode(scene)
    path = work / f"{scenes.VERSION}-{scene.seed}-{scene.index}.{scene.suffix}"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        path.write_bytes(uploads.encode(scene))
    return path.read_bytes()


def measure(kind: scenes.Kind, count: int, work: Path | None) -> dict[str, float | list[int]]:
    """Shares and times over `count` scenes of one kind."""
    found = [scene for scene in scenes.catalogue(SEED, count * 8) if scene.kind == kind][:count]
    assert len(found) == count
    start = time.process_time()
    for scene in found[:20]:
        uploads.encode(scene)
    painting_s = (time.process_time() - start) / len(found[:20])
    model, _ = detector.load()
    dropped, detecting_s, wrong = 0, 0.0, []
    for number, scene in enumerate(found, 1):
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(stored(scene, work)))).convert("RGB")
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
        start = time.process_time()
        verdict = detector.dropped(model, pixels)
        detecting_s += time.process_time() - start
        dropped += verdict
        if verdict != (kind == "objects"):
            wrong.append(scene.index)
        if number % 50 == 0:
            print(f"{kind}: {number} of {count}, {dropped} dropped", file=sys.stderr, flush=True)
    return {
        "scenes": count,
        "dropped": dropped,
        "dropped_share": round(dropped / count, 4),
        "paint_and_encode_s": round(painting_s, 3),
        "detect_s": round(detecting_s / count, 3),
        "wrong": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--scenes", type=int, default=300, help="of each kind")
    parser.add_argument("--work", type=Path, help="keep the painted bytes in this folder")
    given = small.parse(parser, scenes=20)
    torch.set_num_threads(1)
    result = {
        "date": date.today().isoformat(),
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread; core seconds",
        "torch": torch.__version__,
        "seed": SEED,
        "floor": "objects dropped >= 0.95, clean dropped <= 0.03",
        "objects": measure("objects", given.scenes, given.work),
        "clean": measure("clean", given.scenes, given.work),
    }
    (given.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")
    for kind in ("objects", "clean"):
        row = result[kind]
        assert isinstance(row, dict)
        print(
            f"{kind:8} {row['dropped']:4} of {row['scenes']} dropped ({row['dropped_share']:.1%}) · "
            f"paint {row['paint_and_encode_s']} s · detect {row['detect_s']} s"
        )
    good = result["objects"]["dropped_share"] >= 0.95 and result["clean"]["dropped_share"] <= 0.03  # type: ignore[index]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
