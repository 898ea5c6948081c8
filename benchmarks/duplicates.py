"""Versions of 39 scenes among 64 landscapes: pair recall and precision of `duplicates`, imagehash and imagededup.

    python benchmarks/duplicates.py [--photos DIR]

Peers join all pairs within a Hamming radius and are shown at their best radius: the highest recall at a precision of
at least 0.99 (imagehash's and imagededup's pHash; the second where it is installed). Pairs of which one is a version
that was blurred or relit (`counted = no`) count neither way. Six of the landscapes show scenes of the groups, seen by
eye. Floors: recall 0.97 at precision 0.99.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import time
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import small
from material import SHARED, photographs
from PIL import Image

from lhq.measures.clusters import components
from lhq.measures.duplicates import Duplicates, DuplicatesSettings, near_pairs
from lhq.records import Photo

RESULT = Path(__file__).parent / "results/duplicates.json"
SAME_SCENE = {55: 33, 62: 19, 38: 10, 63: 11, 23: 34, 15: 41}


def pictures(folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """(files, group of each, counted)."""
    landscapes = photographs(folder / "landscapes")
    with open(folder / "near_duplicates/GROUPS.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    files = [folder / "near_duplicates" / row["file"] for row in rows]
    group = [int(row["group"]) for row in rows]
    counted = [row["counted"] == "yes" for row in rows]
    for number, path in enumerate(landscapes):
        files.append(path)
        group.append(SAME_SCENE.get(number, -1 - number))
        counted.append(True)
    return files, np.array(group), np.array(counted)


def score(label: np.ndarray, group: np.ndarray, counted: np.ndarray) -> tuple[float, float]:
    """(recall, precision) over pairs of pictures that `label` puts together."""
    one, two = np.triu_indices(len(label), 1)
    right = (group[one] == group[two]) & counted[one] & counted[two]
    wrong = group[one] != group[two]
    found = label[one] == label[two]
    hits = (found & right).sum()
    return float(hits / right.sum()), float(hits / max(1, (found & (right | wrong)).sum()))


def ours(files: list[Path]) -> tuple[np.ndarray, float]:
    photos = []
    for number, path in enumerate(files):
        data = path.read_bytes()
        photos.append(Photo(f"x:{number}", data, 0, 0, sha256=hashlib.sha256(data).hexdigest()))
    measure = Duplicates(DuplicatesSettings())
    start = time.perf_counter()
    facts = pa.Table.from_batches([measure.measure(photos[at : at + 16]) for at in range(0, len(photos), 16)])
    verdicts = measure.judge(facts, DuplicatesSettings())
    seconds = time.perf_counter() - start
    return np.array([n if v.kept else int(v.detail.split(":")[-1]) for n, v in enumerate(verdicts)]), seconds


def by_hash(hashes: np.ndarray, group: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """Best radius: highest recall at precision 0.99; clusters by union-find."""
    found = []
    for radius in range(25):
        recall, precision = score(components(len(hashes), near_pairs(hashes, radius)), group, counted)
        found.append({"radius": radius, "recall": recall, "precision": precision})
    return max((row for row in found if row["precision"] >= 0.99), key=lambda row: row["recall"], default=found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=SHARED / "photos")
    asked = small.parse(parser)
    files, group, counted = pictures(asked.photos)
    label, seconds = ours(files)
    recall, precision = score(label, group, counted)
    result: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "pictures": len(files),
        "ours": {"recall": recall, "precision": precision, "seconds": seconds},
    }
    print(f"{len(files)} pictures\n{'':24} recall  precision")
    print(f"{'lhq duplicates':24} {recall:6.4f}  {precision:9.4f}   {seconds:.1f} s, measured and judged")
    peers = {"imagehash phash": lambda path: int(str(imagehash.phash(Image.open(path))), 16)}
    try:
        from imagededup.methods import PHash

        theirs = PHash()
        peers["imagededup PHash"] = lambda path: int(theirs.encode_image(str(path)), 16)
    except ImportError:
        print(f"{'imagededup PHash':24} is not installed")
    for name, hash_of in peers.items():
        best = by_hash(np.array([hash_of(path) for path in files], np.uint64), group, counted)
        result[name] = best
        print(f"{name:24} {best['recall']:6.4f}  {best['precision']:9.4f}   at its best radius {best['radius']:.0f}")
    (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
