"""Painted scenes → the sandbox's detector: `python -m lhq.sandbox.train_detector --work DIR --out FILE`.

Landscapes are painted once, small, and kept in DIR. Each is used with three sets of objects and empty, along with
many more empty ones, so that the network learns to ignore suns, moons, trees and rocks. Seeds from 1,000,000 on are
reserved for training, so that a user's sandbox is always unseen. An interrupted run resumes from its last checkpoint.
Takes about forty minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import io
import math
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from lhq.sandbox import detector, painting
from lhq.sandbox.scenes import SIZES
from lhq.sandbox.staging import Thing

_SEED = 1_000_000
_SHORT = 288  # rows or columns of a cached picture's short side
_CASTS = 3
_EMA = 0.998


@dataclass(frozen=True, slots=True)
class Example:
    """One cached picture: JPEG bytes, PNG bytes of the map of things (0 none, n the n-th), their labels."""

    picture: bytes
    map: bytes
    labels: tuple[int, ...]


def paint(number: int) -> list[Example]:
    """The examples of one training landscape: without objects, and (in four of five) with several casts of them."""
    rng = np.random.default_rng([_SEED, number])
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    scale = float(rng.choice([0.42, 0.5, 0.75, 1.0], p=[0.45, 0.3, 0.15, 0.1]))
    with_objects = number % 5 != 0
    ground = painting.lay(_SEED + number, number, round(width * scale), round(height * scale), with_objects)
    empty = ground.land.image.copy()
    examples = [_example(ground.rng, empty.copy(), ())]
    for cast in range(_CASTS if with_objects else 0):
        ground.land.image[:] = empty
        things = painting.populate(ground, np.random.default_rng([_SEED, number, cast]))
        examples.append(_example(ground.rng, ground.land.image.copy(), things))
    return examples


def _example(rng: np.random.Generator, pixels: np.ndarray, things: tuple[Thing, ...]) -> Example:
    image = painting.develop(rng, pixels)
    marks = np.zeros((image.height, image.width), np.uint8)
    for number, thing in enumerate(things, 1):
        marks[thing.mask] = number
    ratio = _SHORT / min(image.size)
    size = round(image.width * ratio), round(image.height * ratio)
    picture, marked = io.BytesIO(), io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2).save(
        picture, "jpeg", quality=int(rng.integers(80, 96))
    )
    Image.fromarray(marks).resize(size, Image.Resampling.NEAREST).save(marked, "png")
    labels = tuple(detector.CLASSES.index(thing.label) + 1 for thing in things)
    return Example(picture.getvalue(), marked.getvalue(), labels)


def cached(work: Path, lands: range) -> list[Example]:
    """Every example of some landscapes, painted if not yet on disk."""
    work.mkdir(parents=True, exist_ok=True)
    examples: list[Example] = []
    for number in lands:
        path = work / f"land-{number:05d}.pt"
        if not path.exists():
            torch.save([(one.picture, one.map, one.labels) for one in paint(number)], path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
            if number % 50 == 0:
                print(f"painted {number} of {lands.stop} landscapes", file=sys.stderr, flush=True)
        examples += [Example(*parts) for parts in torch.load(path)]
    return examples


def read(example: Example, rng: random.Random) -> tuple[Tensor, dict[str, Tensor]]:
    """One example for torchvision: randomly cropped, mirrored and relit."""
    pixels = np.asarray(Image.open(io.BytesIO(example.picture)), np.float32) / 255
    marks = np.asarray(Image.open(io.BytesIO(example.map)))
    height, width = marks.shape
    if rng.random() < 0.5:
        h, w = int(height * rng.uniform(0.7, 1)), int(width * rng.uniform(0.7, 1))
        y, x = rng.randint(0, height - h), rng.randint(0, width - w)
        pixels, marks = pixels[y : y + h, x : x + w], marks[y : y + h, x : x + w]
    if rng.random() < 0.5:
        pixels, marks = pixels[:, ::-1], marks[:, ::-1]
    gain = np.array([rng.uniform(0.92, 1.08) for _ in range(3)], np.float32) * rng.uniform(0.8, 1.2)
    pixels = np.clip((pixels - 0.45) * rng.uniform(0.85, 1.15) + 0.45, 0, 1) * gain
    masks, boxes, labels = [], [], []
    for number, label in enumerate(example.labels, 1):
        mask = marks == number
        rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        if mask.sum() < 60 or len(rows) < 6 or len(columns) < 6:
            continue
        masks.append(mask)
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        labels.append(label)
    target = {
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *marks.shape)),
    }
    image = torch.from_numpy(np.ascontiguousarray(np.clip(pixels, 0, 1).transpose(2, 0, 1)))
    return image, target


def train(examples: list[Example], work: Path, steps: int, batch: int) -> MaskRCNN:
    """The running mean of the weights after `steps` steps."""
    torch.manual_seed(0)
    model = detector.build()
    mean = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-2)
    path, first = work / "checkpoint.pt", 0
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        mean.load_state_dict(saved["mean"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
    model.train()
    model.transform.min_size = (224, 256, 288)
    shown, started = dict[str, float](), time.monotonic()
    for step in range(first, steps):
        rng = random.Random(step)
        rate = 1.5e-3 * min(1.0, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, targets = zip(*(read(rng.choice(examples), rng) for _ in range(batch)), strict=True)
        losses = model(list(images), list(targets))
        loss = sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        _follow(mean, model, min(_EMA, (step + 1) / (step + 10)))
        for name, value in {"loss": loss, **losses}.items():
            shown[name] = 0.98 * shown.get(name, float(value.detach())) + 0.02 * float(value.detach())
        if (step + 1) % 100 == 0:
            torch.save(
                {
                    "model": model.state_dict(),
                    "mean": mean.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step + 1,
                },
                path.with_suffix(".part"),
            )
            os.replace(path.with_suffix(".part"), path)
            pace = (time.monotonic() - started) / (step + 1 - first)
            rest = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in shown.items())
            print(f"step {step + 1} of {steps} · {rest} · {pace:.2f} s a step", file=sys.stderr, flush=True)
    return mean


@torch.no_grad()
def _follow(mean: torch.nn.Module, model: torch.nn.Module, keep: float) -> None:
    for kept, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)


def calibrate(model: MaskRCNN, examples: list[Example]) -> float:
    """Shift the background's weight so that `MIN_SCORE` is where mistakes on held-out examples cost least.

    A clean scene dropped in a hundred costs as much as 5/3 scenes with objects kept: the floors are 3 % and 5 %.
    Returns the score that `MIN_SCORE` stands for from now on.
    """
    model.eval()
    scores = np.arange(0.3, 0.9, 0.05)
    wrong = np.zeros((2, len(scores)))
    count = [0, 0]
    for example in examples:
        pixels = np.asarray(Image.open(io.BytesIO(example.picture)), np.float32) / 255
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        has = int(bool(example.labels))
        count[has] += 1
        wrong[has] += [drop != bool(has) for drop in detector.dropped_at(model, image, scores)]
    shares = wrong / np.maximum(count, 1)[:, None]
    costs = shares[0] / 0.03 + shares[1] / 0.05
    best = float(np.mean(scores[costs <= costs.min() + 1e-9]))
    for score, clean, objects in zip(scores, *shares, strict=True):
        print(f"score {score:.2f}: clean dropped {clean:.1%}, objects kept {objects:.1%}", file=sys.stderr)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[0] += math.log(best / (1 - best))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for painted examples and checkpoints")
    parser.add_argument("--out", type=Path, default=detector.WEIGHTS)
    parser.add_argument("--lands", type=int, default=700)
    parser.add_argument("--held-out", type=int, default=200, help="landscapes for calibration")
    parser.add_argument("--steps", type=int, default=2900)
    parser.add_argument("--batch", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    examples = cached(given.work, range(given.lands))
    print(f"{len(examples)} examples", file=sys.stderr, flush=True)
    model = train(examples, given.work, given.steps, given.batch)
    held_out = cached(given.work, range(given.lands, given.lands + given.held_out))
    score = calibrate(model, held_out)
    facts = {"landscapes": given.lands, "steps": given.steps, "batch": given.batch, "calibrated_from": round(score, 3)}
    detector.save(model, given.out, facts)
    print(given.out)


if __name__ == "__main__":
    main()
