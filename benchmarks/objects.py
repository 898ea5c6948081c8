"""Does the detector ever wait, and does half precision decide alike?

    python benchmarks/objects.py [--part rate|verdicts|both] [--photos 32] [--batch 1] [--short-side 800] [--rounds 8]
                                 [--scenes 400] [--work FOLDER]

Rate: the object measure, which decodes, batches, detects and packs facts, beside the bare detector on the same batches,
already decoded. Rounds are short and many: each takes the next eight photographs and times the one right after the
other, who is first by turns. The figure is the median over rounds: of wall time, since decoding runs beside the
detector. The network is the paper's, Mask R-CNN R50-FPN, with random weights: what it sees does not matter here. Photos
are those of $LHQ_SHARED/photos (else of shared/ beside the project), else noise. Verdicts: painted scenes, half of them
with objects in the way, judged by half- and by full-precision facts of the sandbox's trained detector; `--work` keeps
the scenes for another run.
Floors: rate at least 0.95 of the bare detector's; verdicts equal on at least 99.5 %.
Writes benchmarks/results/objects.json, part by part.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import small
import torch
from material import SHARED
from PIL import Image
from sandbox_detector import SEED, stored
from torchvision.models.detection import maskrcnn_resnet50_fpn

from lhq.images import inspect
from lhq.measures.objects import Objects, ObjectsSettings, _open
from lhq.measures.prefetch import Prefetcher
from lhq.records import Photo
from lhq.sandbox import scenes

ROOT = Path(__file__).parents[1]
A_ROUND = 8
RESULT = Path(__file__).parent / "results" / "objects.json"


def photos(count: int) -> tuple[list[Photo], str]:
    """Half of them full of objects, half landscapes."""
    files = [sorted((SHARED / "photos" / name).glob("*.jpg")) for name in ("objects", "landscapes")]
    mixed = [file for pair in zip(*files, strict=False) for file in pair]
    found = []
    for number in range(count):
        if mixed:
            data = mixed[number % len(mixed)].read_bytes()
        else:
            rng = np.random.default_rng(number)
            small = Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8))
            file = io.BytesIO()
            small.resize((1536, 1024), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
            data = file.getvalue()
        header = inspect(data)
        found.append(Photo(f"b:{number}", data, header.width_px, header.height_px, header.orientation))
    return found, "real photographs" if mixed else "painted pictures"


def rate(count: int, batch: int, short_side_px: int, rounds: int) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    threads = max(1, torch.get_num_threads() - (not cuda))  # on the CPU one core is left to decoding
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.manual_seed(0)
        torch.save(maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), weights)
        settings = ObjectsSettings(
            backend="torchvision", weights=str(weights), short_side_px=short_side_px, batch=batch, precision="full"
        )
        measure, (pictures, what) = Objects(settings), photos(count)
        detector, _ = _open(settings)
        prefetcher = Prefetcher(detector.fit, ahead=3 * batch)
        parts = [pictures[at : at + A_ROUND] for at in range(0, count, A_ROUND)]
        decoded = [[one.images for one in prefetcher.batches(part, lambda: batch) if one.images] for part in parts]
        detector.detect(decoded[0][0])  # warm

        def timed(what: Callable[[], object]) -> float:
            start = time.perf_counter()
            what()
            if cuda:
                torch.cuda.synchronize()
            return time.perf_counter() - start

        loops: dict[str, Callable[[int], object]] = {
            "bare": lambda part: [detector.detect(images) for images in decoded[part]],
            "full": lambda part: measure.measure(parts[part]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for number in range(rounds):
            for name in sorted(loops, reverse=number % 2 > 0):
                seconds[name].append(timed(partial(loops[name], number % len(parts))) / len(parts[number % len(parts)]))
        bare_s, full_s = seconds["bare"], seconds["full"]
    return {
        "torch_threads": threads,
        "photos": f"{len(pictures)} {what}, {A_ROUND} a round, in batches of at most {batch}",
        "detector": detector.name,
        "shown_px": [detector.fit.short_px, detector.fit.long_px],
        "rate_over_bare": round(statistics.median(b / f for b, f in zip(bare_s, full_s, strict=True)), 4),
        "rate_over_bare_each_round": [round(b / f, 4) for b, f in zip(bare_s, full_s, strict=True)],
        "measure_per_s": round(1 / statistics.median(full_s), 3),
        "bare_per_s": round(1 / statistics.median(bare_s), 3),
        "floor": "rate_over_bare >= 0.95",
    }


def verdicts(count: int, work: Path | None) -> dict[str, object]:
    kept, seconds, scores = [], [], []
    catalogue = scenes.catalogue(SEED, 2400)  # as sandbox_detector.py paints them, so that `work` serves both
    chosen = [s for kind in ("objects", "clean") for s in [s for s in catalogue if s.kind == kind][: count // 2]]
    pictures = []
    for scene in chosen:
        header = inspect(data := stored(scene, work))
        pictures.append(Photo(f"b:{scene.index}", data, header.width_px, header.height_px, header.orientation))
    for precision in ("full", "half"):
        settings = ObjectsSettings(weights="sandbox", batch=8, precision=precision)
        measure = Objects(settings)
        start = time.perf_counter()
        facts = [measure.measure(pictures[at : at + 64]) for at in range(0, len(pictures), 64)]
        seconds.append(time.perf_counter() - start)
        judged = measure.judge(pa.Table.from_batches(facts), settings)
        kept.append(judged.kept)
        scores.append(judged.score)
    return {
        "scenes": len(pictures),
        "half": "float16 by autocast",
        "verdicts_equal_in_half_precision": round(float((kept[0] == kept[1]).mean()), 4),
        "largest_difference_of_area": round(float(np.nanmax(np.abs(scores[0] - scores[1]))), 5),
        "dropped": int((~kept[0]).sum()),
        "full_s": round(seconds[0], 1),
        "half_s": round(seconds[1], 1),
        "floor": "verdicts equal >= 0.995",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--part", choices=["rate", "verdicts", "both"], default="both")
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--short-side", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--work", type=Path, help="keep the painted scenes in this folder")
    given = small.parse(parser, photos=4, rounds=1, short_side=256, scenes=40)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    path = given.results / RESULT.name
    result = json.loads(path.read_text()) if path.is_file() else {}
    result |= {
        "date": date.today().isoformat(),
        "hardware": f"{device}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    good = True
    if given.part != "verdicts":
        result["rate"] = found = rate(given.photos, given.batch, given.short_side, given.rounds)
        ratio = found["rate_over_bare"]
        good &= ratio >= 0.95
        each = found["rate_over_bare_each_round"]
        print(
            f"measure / bare detector   {ratio:.3f}   ({found['measure_per_s']} and {found['bare_per_s']} photos/s; "
            f"{len(each)} rounds, {min(each):.3f} to {max(each):.3f})"
        )
    if given.part != "rate":
        result["verdicts"] = found = verdicts(given.scenes, given.work)
        equal = found["verdicts_equal_in_half_precision"]
        good &= equal >= 0.995
        print(
            f"verdicts equal, half and full precision   {equal:.2%}   ({found['dropped']} of {found['scenes']} dropped)"
        )
    (given.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
