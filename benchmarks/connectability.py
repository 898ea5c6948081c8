"""Connectability scores against the same classifier computed plainly in float64 by numpy and scipy.

    python benchmarks/connectability.py [--photos 240] [--by-hand 40]

A store of photos with and without a side is painted, the measure trains its folds on it (backbone "tiny") and
scores it; then scores are computed again from the stored fits by loops over scipy's correlation. Floors:
scores equal to 1e-5; photos with a side score above those without (area under the curve at least 0.99).
Writes benchmarks/results/connectability.json.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import io
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import small
import torch
from PIL import Image
from scipy.signal import correlate
from scipy.special import softmax
from scipy.stats import rankdata

from lhq.measures import fitted
from lhq.measures.connectability import Connectability, ConnectabilitySettings, fold_of
from lhq.measures.prefetch import Fit, pixels
from lhq.records import ADDED, PHOTO_SCHEMA, Photo
from lhq.store.shards import Shards

RESULT = Path(__file__).parent / "results" / "connectability.json"


def picture(seed: int, is_sided: bool) -> bytes:
    """Coarse noise; with a side: a dark trunk that leans outwards in either half."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 200, (12, 18, 3), np.uint8))
    pixels = np.asarray(small.resize((288, 192), Image.Resampling.BICUBIC), np.float64).copy()
    if is_sided:
        yy, xx = np.mgrid[0:192, 0:144]
        trunk = np.abs(xx - 30 - rng.integers(0, 40) - 0.35 * yy) < 9
        pixels[:, :144][trunk] *= 0.25
        pixels[:, 144:][trunk[:, ::-1]] *= 0.25
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def row(number: int, data: bytes) -> dict[str, object]:
    text = dict.fromkeys((name for name in PHOTO_SCHEMA.names if pa.types.is_string(PHOTO_SCHEMA.field(name).type)), "")
    return {
        **ADDED,
        **text,
        "id": f"b:{number}",
        "queries": [],
        "tags": [],
        "fetched_at": datetime.datetime.now(datetime.UTC),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "format": "jpeg",
        "width_px": 288,
        "height_px": 192,
        "orientation": 1,
        "image": data,
    }


def by_hand(state: dict[str, np.ndarray], half: np.ndarray) -> np.ndarray:
    """Chances of (left, right) for one half, uint8 [H, W, 3], in float64."""
    x = (half.astype(np.float64) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    x = x.transpose(2, 0, 1)
    for layer in range(4):
        weight = state[f"backbone.{layer}.0.weight"].astype(np.float64)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        x = np.stack([correlate(padded, kernel, "valid", "direct")[0] for kernel in weight])[:, ::2, ::2]
        mean, var, gain, bias = (
            state[f"backbone.{layer}.1.{name}"].astype(np.float64)[:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = np.maximum((x - mean) / np.sqrt(var + 1e-5) * gain + bias, 0)
    features = x.mean((1, 2))
    return softmax(state["head.weight"].astype(np.float64) @ features + state["head.bias"].astype(np.float64))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--by-hand", type=int, default=40, help="photos computed by hand as well (a second each)")
    given = small.parse(parser, photos=120, by_hand=8)
    torch.set_num_threads(1)
    is_sided = np.arange(given.photos) % 2 == 0
    rows = [row(number, picture(number, bool(is_sided[number]))) for number in range(given.photos)]
    photos = [Photo(str(r["id"]), r["image"], 288, 192) for r in rows]  # type: ignore[arg-type]
    settings = ConnectabilitySettings(
        backbone="tiny",
        side_px=64,
        train_share=0.3,
        validation_share=0.1,
        epochs=12,
        train_batch=16,
        device="cpu",
        lr_backbone=2e-3,
        lr_head=2e-3,
    )
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(folder, "photos")
        shards.write(0, pa.Table.from_pylist(rows, PHOTO_SCHEMA), row_group_size=32)
        measure = Connectability(settings)
        start = time.perf_counter()
        measure.prepare(shards)
        train_s = time.perf_counter() - start
        start = time.perf_counter()
        facts = pa.Table.from_batches([measure.measure(photos)])
        measure_s = time.perf_counter() - start
        score = measure.judge(facts, settings).score
        key = fitted.fit_key("connectability", measure.version, settings)
        states = []
        for fold in range(settings.folds):
            found = fitted.read(folder, f"{key}-{fold}")
            assert found is not None
            states.append(found[0])
    start = time.perf_counter()
    plain = []
    for photo in photos[: given.by_hand]:
        square = pixels(photo, Fit(64, 64, square="cropped"))
        state = states[fold_of(photo.id, settings.folds)]
        plain.append(max(by_hand(state, square[:, :32])[0], by_hand(state, square[:, 32:])[1]))  # type: ignore[arg-type]
    plain_s = time.perf_counter() - start
    worst = float(np.abs(score[: len(plain)] - plain).max())
    num = int(is_sided.sum())
    auc = float((rankdata(score)[is_sided].sum() - num * (num + 1) / 2) / (num * (len(score) - num)))
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread",
        "photos": len(photos),
        "worst_difference": worst,
        "area_under_curve": round(auc, 4),
        "by_hand": len(plain),
        "ours_ms_a_photo": round(1000 * measure_s / len(photos), 2),
        "by_hand_ms_a_photo": round(1000 * plain_s / len(plain), 2),
        "train_s": round(train_s, 1),
        "median_score": {"sided": float(np.median(score[is_sided])), "plain": float(np.median(score[~is_sided]))},
        "floor": "worst <= 1e-5, area under the curve >= 0.99",
    }
    (given.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")
    print(f"worst difference to float64 by hand: {worst:.1e} over {len(plain)} photos")
    print(f"area under the curve, with a side against without: {auc:.4f}")
    return 0 if worst <= 1e-5 and auc >= 0.99 else 1


if __name__ == "__main__":
    sys.exit(main())
