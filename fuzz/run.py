"""Fuzzing of everything that reads bytes from elsewhere: `make fuzz`, or `python fuzz/run.py TARGET [--seconds 60]`.

Each target is a function that takes any bytes and may only end well or raise an error of ours. With atheris (in the
`fuzz` extra) the search is guided by coverage of our Python code; without it inputs are mutated at random. Either way
the target runs in a process of its own, so that a crash of a decoder is a finding, kept in fuzz/found/TARGET, and not
the end. The corpus starts with the files of shared/nasty, where they are. A finding becomes a test.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.targets import TARGETS, seeds

HERE = Path(__file__).parent
_BATCH = 200


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few small harms: bytes changed, cut, doubled, or taken from another input."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(6)
        if kind < 2 and out:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, out[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        elif kind == 2:
            del out[at : at + rng.choice((1, 4, 64))]
        elif kind == 3:
            out[at:at] = out[at : at + rng.choice((1, 4, 64))]
        elif kind == 4 and other:
            start = rng.randrange(len(other))
            out[at : at + 16] = other[start : start + rng.choice((4, 16, 64))]
        elif out:
            out[at : at + 4] = rng.randrange(2**32).to_bytes(4, "big")
    return bytes(out)


def at_random(name: str, seconds: float, corpus: list[bytes], rng: random.Random) -> tuple[int, list[bytes]]:
    """(inputs tried, those that broke the target): batches in a process each, one by one where that process died."""
    tried, found, end = 0, [], time.monotonic() + seconds
    while time.monotonic() < end:
        batch = [mutated(rng.choice(corpus), rng.choice(corpus), rng) for _ in range(_BATCH)]
        tried += len(batch)
        if _breaks(name, batch):
            found += [data for data in batch if _breaks(name, [data])]
    return tried, found


def _breaks(name: str, batch: list[bytes]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(batch):
            Path(folder, f"{number:04d}").write_bytes(data)
        command = [sys.executable, __file__, name, "--once", folder]
        return subprocess.run(command, capture_output=True, check=False, timeout=600).returncode != 0


def guided(name: str, seconds: float, corpus: list[bytes]) -> int:
    """atheris over the target, in this process: its exit code; what broke it is in fuzz/found/TARGET."""
    import atheris

    folder, found = HERE / "corpus" / name, HERE / "found" / name
    folder.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    for data in corpus:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
    with atheris.instrument_imports(include=["lhq", "alis"]):
        TARGETS[name](corpus[0])  # targets import what they test when they are called
    options = [f"-max_total_time={seconds:.0f}", f"-artifact_prefix={found}/", "-rss_limit_mb=2048", "-timeout=60"]
    atheris.Setup([sys.argv[0], *options, str(folder)], TARGETS[name])
    atheris.Fuzz()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), help="one target; else all, one after the other")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--once", metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        for path in sorted(Path(asked.once).iterdir()):
            TARGETS[asked.target](path.read_bytes())
        return 0
    has_atheris = importlib.util.find_spec("atheris") is not None and not asked.random
    broken = 0
    for name in [asked.target] if asked.target else sorted(TARGETS):
        corpus = seeds(name)
        if has_atheris and asked.target:
            return guided(name, asked.seconds, corpus)
        if has_atheris:
            command = [sys.executable, __file__, name, "--seconds", str(asked.seconds)]
            code = subprocess.run(command, check=False).returncode
            broken += code != 0
            print(f"{name:12} {'a finding, see fuzz/found' if code else 'nothing found'}", flush=True)
            continue
        tried, found = at_random(name, asked.seconds, corpus, random.Random(asked.seed))
        for data in found:
            place = HERE / "found" / name / hashlib.sha1(data).hexdigest()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        broken += len(found)
        print(f"{name:12} {tried:7,} inputs from {len(corpus):4} seeds, {len(found)} findings", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
