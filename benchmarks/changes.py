"""Twenty changes of 58 photographs: pair recall and precision of `duplicates` by change, beside imagehash.

    python benchmarks/changes.py [--photos DIR] [--num 58]

Each photograph (the long side brought to 1,200 px) is there as it is and changed in twenty ways, from a smaller size
to a caption over a twelfth of it. A pair is right if both are of one photograph. imagehash's phash joins all pairs in a
radius and is shown at its best one: the highest recall at a precision of at least 0.99.
Floors: pair recall 0.95 at precision 0.99.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import small
from duplicates import by_hash, score
from material import SHARED, photographs
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.records import Photo

RESULT = Path(__file__).parent / "results/changes.json"
Change = Callable[[Image.Image], Image.Image]


def cropped(left: float, top: float, right: float, bottom: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))

    return change


def turned_by(degrees: float) -> Change:
    """Turned a little and cropped to what is left of the picture, as a horizon is straightened."""

    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        turned = image.rotate(degrees, Image.Resampling.BICUBIC)
        edge = np.tan(np.radians(abs(degrees)))
        x, y = round(height * edge / 2) + 1, round(width * edge / 2) + 1
        return turned.crop((x, y, width - x, height - y))

    return change


def marked(share: float, words: str, place: str) -> Change:
    """A white word, or a dark band with a caption, over a share of the picture."""

    def change(image: Image.Image) -> Image.Image:
        image, (width, height) = image.copy(), image.size
        draw = ImageDraw.Draw(image)
        if place == "band":
            band = round(height * share)
            draw.rectangle((0, height - band, width, height), fill=(20, 20, 20))
            draw.text((width // 40, height - band), words, "white", ImageFont.load_default(band * 0.7))
        else:
            size = (share * width * height / (0.5 * len(words))) ** 0.5
            box = (width * 0.05, height * 0.75) if place == "corner" else (width * 0.2, height * 0.4)
            draw.text(box, words, "white", ImageFont.load_default(size))
        return image

    return change


def square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def framed(image: Image.Image) -> Image.Image:
    edge = round(min(image.size) * 0.03)
    out = Image.new("RGB", (image.width + 2 * edge, image.height + 2 * edge), "white")
    out.paste(image, (edge, edge))
    return out


def noisy(image: Image.Image) -> Image.Image:
    grain = np.random.default_rng(0).normal(0, 12, (image.height, image.width, 3))
    pixels = np.asarray(image, np.int16) + grain.astype(np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "JPEG 25": lambda image: again(image, 25),
    "crop 5 % a side": cropped(0.05, 0.05, 0.95, 0.95),
    "crop 20 % on the left": cropped(0.2, 0, 1, 1),
    "crop to a square": lambda image: square(image),
    "crop to 16:9": lambda image: image.crop((0, image.height // 12, image.width, image.height - image.height // 12)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "less colour": lambda image: ImageEnhance.Color(image).enhance(0.3),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
    "noise": noisy,
    "frame": framed,
    "watermark 3 %": marked(0.03, "PHOTOSTOCK", "corner"),
    "watermark 6 %": marked(0.06, "PHOTOSTOCK", "middle"),
    "caption 8 %": marked(0.08, "A view of the valley, early in the morning", "band"),
    "turned by 2°": turned_by(2),
    "turned by 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180°": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def again(image: Image.Image, quality: int) -> Image.Image:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(sink).convert("RGB")


def pictures(files: list[Path], num: int) -> list[tuple[int, str, bytes]]:
    """(photograph, change, JPEG) of each."""
    found = []
    for number, path in enumerate(files[:num]):
        image = Image.open(path).convert("RGB")
        image.thumbnail((1200, 1200), Image.Resampling.LANCZOS)
        for name, change in {"as it is": lambda image: image, **CHANGES}.items():
            sink = io.BytesIO()
            change(image).save(sink, "JPEG", quality=88)
            found.append((number, name, sink.getvalue()))
    return found


def facts_of(found: list[tuple[int, str, bytes]]) -> pa.Table:
    measure = Duplicates(DuplicatesSettings())
    photos = [Photo(f"x:{at}", data, 0, 0) for at, (_, _, data) in enumerate(found)]
    return pa.Table.from_batches([measure.measure(photos[at : at + 16]) for at in range(0, len(photos), 16)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=SHARED / "photos/landscapes")
    parser.add_argument("--num", type=int, default=58)
    asked = small.parse(parser, num=12)
    found = pictures(photographs(asked.photos), asked.num)
    group = np.array([number for number, _, _ in found])
    counted = np.ones(len(found), bool)
    settings = DuplicatesSettings()
    verdicts = Duplicates(settings).judge(facts_of(found), settings)
    label = np.array([n if v.kept else int(v.detail.split(":")[-1]) for n, v in enumerate(verdicts)])
    recall, precision = score(label, group, counted)
    hashes = np.array([int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16) for _, _, data in found], np.uint64)
    peer = by_hash(hashes, group, counted)
    names = [name for _, name, _ in found]
    by_change = {}
    for name in CHANGES:
        rows = [n for n in range(len(found)) if names[n] == name]
        first = [n - list(CHANGES).index(name) - 1 for n in rows]
        by_change[name] = int(sum(label[a] == label[b] for a, b in zip(rows, first, strict=True)))
        print(f"{name:24} {by_change[name]:3} of {len(rows)} found beside the photograph itself")
    print(f"{len(found)} pictures\n{'':24} recall  precision")
    print(f"{'lhq duplicates':24} {recall:6.4f}  {precision:9.4f}")
    said = f"at its best radius {peer['radius']:.0f}"
    print(f"{'imagehash phash':24} {peer['recall']:6.4f}  {peer['precision']:9.4f}   {said}")
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "pictures": len(found),
        "ours": {"recall": recall, "precision": precision, "by_change": by_change},
        "imagehash": peer,
        "floors": {"recall": 0.95, "precision": 0.99},
    }
    (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(recall < 0.95 or precision < 0.99)


if __name__ == "__main__":
    main()
