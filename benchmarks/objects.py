"""Does the detector ever wait: the object measure against the bare detector on the same batches, already decoded.

    python benchmarks/objects.py [--photos 48] [--weights sandbox] [--rounds 3] [--short-side 256] [--batch 8]

Photos are those of ../shared/photos beside the project, else painted ones. The measure decodes, batches, detects
and packs facts; the bare loop only detects. The second table judges the same photos by half- and by full-precision
facts. Floors: rate at least 0.95 of the bare detector's; verdicts equal on at least 99.5 %.
Writes benchmarks/results/objects.json.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from lhq.images import inspect
from lhq.measures.feeding import Feed
from lhq.measures.objects import Objects, ObjectsSettings, _open
from lhq.records import Photo

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "objects.json"
SHARED = ROOT.parent / "shared" / "photos"


def photos(count: int) -> tuple[list[Photo], str]:
    """Half of them full of objects, half landscapes."""
    files = [sorted((SHARED / name).glob("*.jpg")) for name in ("objects", "landscapes")]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--weights", default="sandbox")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short-side", type=int, default=None)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    cuda = torch.cuda.is_available()
    threads = max(1, torch.get_num_threads() - (not cuda))  # on the CPU one core is left to decoding
    torch.set_num_threads(threads)
    settings = ObjectsSettings(
        weights=given.weights, short_side_px=given.short_side, batch=given.batch, precision="full", max_area=0.01
    )
    measure, (pictures, what) = Objects(settings), photos(given.photos)
    detector, _ = _open(settings)
    feed = Feed(detector.fit, ahead=3 * given.batch)
    batches = [batch.images for batch in feed.batches(pictures, lambda: given.batch) if batch.images]
    detector.detect(batches[0])  # warm

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize()

    bare_s, full_s = [], []
    for _ in range(given.rounds):
        start = time.perf_counter()
        for batch in batches:
            detector.detect(batch)
        wait()
        bare_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        facts = measure.measure(pictures)
        wait()
        full_s.append(time.perf_counter() - start)
    ratio = statistics.median(bare / full for bare, full in zip(bare_s, full_s, strict=True))

    half = Objects(settings.model_copy(update={"precision": "half"})).measure(pictures)
    kept = [measure.judge(pa.Table.from_batches([one]), settings).kept for one in (facts, half)]
    equal = float((kept[0] == kept[1]).mean())
    device = torch.cuda.get_device_name() if cuda else f"{platform.processor() or platform.machine()}"
    result = {
        "date": date.today().isoformat(),
        "hardware": f"{device}, {threads} torch threads",
        "torch": torch.__version__,
        "photos": f"{len(pictures)} {what} in {len(batches)} batches of at most {given.batch}",
        "detector": detector.name,
        "shown_px": [detector.fit.short_px, detector.fit.long_px],
        "rate_over_bare": round(ratio, 4),
        "measure_per_s": round(len(pictures) / statistics.median(full_s), 2),
        "bare_per_s": round(len(pictures) / statistics.median(bare_s), 2),
        "verdicts_equal_in_half_precision": round(equal, 4),
        "dropped": int((~kept[0]).sum()),
        "floor": "rate_over_bare >= 0.95, verdicts equal >= 0.995",
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"measure / bare detector   {ratio:.3f}   ({result['measure_per_s']} and {result['bare_per_s']} photos/s)")
    print(f"verdicts equal, half and full precision   {equal:.2%}   ({result['dropped']} of {len(pictures)} dropped)")
    return 0 if ratio >= 0.95 and equal >= 0.995 else 1


if __name__ == "__main__":
    sys.exit(main())
