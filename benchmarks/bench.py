"""Every benchmark small, one after the other, and one table: what is measured, the ratio, its floor, whether it holds.

    make bench                                       ten minutes on two quiet cores
    python benchmarks/bench.py --only crawl export   some of them
    python benchmarks/bench.py --full                at the sizes that their floors were set for: hours

Small figures say that everything runs and roughly how it stands; they lie in benchmarks/results/quick/, beside the full
ones that the documentation quotes, and the table in bench.json and bench.md. A floor that a small run misses is marked
and no failure; a script that dies is one. img2dataset runs in an environment of its own (`make peers`); what is not
installed is left out and named. GPU, hours of training and helpers have no part in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import claims

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
PEER = ROOT / ".peers" / "img2dataset" / "bin" / "img2dataset"
LEFT_OUT = 3  # a script's own word for "what I need is not here"
_Number = float | None


@dataclass(frozen=True)
class Figure:
    """A number of a benchmark's results, keys and places joined by `|`, and what it should be at least or at most.

    `least_small`: instead of `least` for the small run, whose sample is another one."""

    what: str
    source: str
    least: _Number = None
    most: _Number = None
    least_small: _Number = None

    def holds(self, value: float) -> bool | None:
        """Whether the floor holds; None without one."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Bench:
    """A script, its words beside `--quick` (`{scratch}` is a folder, `{peer}` img2dataset), and its figures.

    What has no `--quick` is small by its words, and no part of a full run."""

    script: str
    figures: tuple[Figure, ...]
    words: tuple[str, ...] = ()
    has_quick: bool = True


F = Figure
BENCHES = (
    Bench(
        "crawl",
        (
            F("photos a second, over img2dataset", "crawl|lhq_over_img2dataset", least=1.2),
            F("photos a second, over a bare loop", "crawl|lhq_over_floor"),
            F("a frontier opened again, s", "crawl|frontier|resume_s", most=5),
        ),
        ("--peer", "{peer}"),
    ),
    Bench("painter", (F("a painted scene, s of a core", "painter|clean|mean_s", most=0.3),)),
    Bench("size_rate", (F("size facts, over Pillow's bare loop", "size_rate|rows|as they are|of_pillow", least=0.9),)),
    Bench("near_pairs", (F("100,000 hashes, s", "near_pairs|rows|hashes=100000|seconds", most=3),)),
    Bench(
        "duplicates",
        (
            F("recall of versions", "duplicates|ours|recall", least=0.97),
            F("its precision", "duplicates|ours|precision", least=0.99),
            F("recall of imagehash at that precision", "duplicates|imagehash phash|recall"),
        ),
    ),
    Bench(
        "changes",
        (
            F("recall of twenty changes", "changes|ours|recall", least=0.95, least_small=0.93),
            F("its precision", "changes|ours|precision", least=0.99),
            F("recall of imagehash at that precision", "changes|imagehash|recall"),
        ),
    ),
    Bench("objects", (F("measure's rate, over the bare detector", "objects|rate|rate_over_bare", least=0.95),)),
    Bench(
        "sandbox_detector",
        (
            F("scenes with objects dropped", "sandbox_detector|objects|dropped_share", least=0.95),
            F("clean scenes dropped", "sandbox_detector|clean|dropped_share", most=0.03),
        ),
    ),
    Bench("outliers", (F("reference's time, over ours", "outliers|reference_time_over_ours", least=1),)),
    Bench("connectability", (F("largest difference to float64", "connectability|worst_difference", most=1e-5),)),
    Bench("judge", (F("judging, s", "judge|seconds", most=30),)),
    Bench(
        "scale", (F("judge's time grows as n to the", "scale|growth|judge|processor_s", most=1.2),), ("--up-to", "5")
    ),
    Bench("export", (F("photos a second, over a plain Pillow loop", "export|rate|export_ratio", least=3),)),
    Bench(
        "loader",
        (
            F("pictures a second, over `datasets`", "loader|ratios|alis / datasets"),
            F("processor time of the floor, over ours", "loader|ratios|alis / floor, processor time"),
        ),
    ),
    Bench("training", (F("a step's multiplications alone, over the step", "training|ratios|floor / ours"),)),
    Bench(
        "operators",
        (F("share of the first operator, painting", "operators|what|paint demo|shares|aten::mkldnn_convolution"),),
    ),
    Bench("networks", (F("a frame, over the published formulation", "networks|rows|0|times_faster", least=1),)),
    Bench(
        "panorama",
        (F("panorama over the walk of frames", "panorama_quick|speed|0|ratio_sharing", least=1.5),),
        ("--only", "speed"),
    ),
    Bench("plane", (F("a frame on the plane, over patches", "plane|rows|what=frame|ratio"),)),
    Bench("picture_memory", (F("memory of a large picture, MB", "picture_memory|most_mb"),)),
    Bench("server", (F("slowest tiles, over one by one", "server|rows|0|p95_ratio", least=1),), ("demo",)),
    Bench(
        "static_page",
        (
            F("first tile without a server, s", "static_page|in_the_browser|first_tile_s", most=3),
            F("frames a second", "static_page|in_the_browser|drifting|fps", least=30),
        ),
    ),
    Bench("trains", (), ("paint", "{scratch}/painted", "--scenes", "150"), has_quick=False),
    Bench(
        "judges",
        (F("seam of the demo model", "judges|rows|1|seam", most=1.1),),
        ("{scratch}/painted", "demo", "--num", "80", "--strips", "1", "--features", "random", "--out", "{results}"),
        has_quick=False,
    ),
)


def run(bench: Bench, scratch: Path, is_full: bool) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Run one benchmark; how it went, and its figures as rows of the table."""
    results = HERE / "results" if is_full else HERE / "results" / "quick"
    folder = ROOT / "benchmarks" / "results" if bench.script == "panorama" else results
    places = {
        "scratch": str(scratch),
        "peer": str(PEER) if PEER.is_file() else "",
        "results": str(results / f"{bench.script}.json"),
    }
    words = [sys.executable, str(HERE / f"{bench.script}.py"), *(word.format(**places) for word in bench.words)]
    words += ["--quick"] if bench.has_quick and not is_full else []
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    began, started, used = time.perf_counter(), time.time(), processor_s()
    # Into files: a browser's helper that outlives its script would hold a pipe open, and us with it.
    with (scratch / "out.txt").open("w+") as out, (scratch / "err.txt").open("w+") as err:
        done = subprocess.run(words, cwd=ROOT, env=env, stdout=out, stderr=err, check=False)
    said, complaint = ((scratch / name).read_text(errors="replace").strip() for name in ("out.txt", "err.txt"))
    told: dict[str, object] = {"seconds": round(time.perf_counter() - began, 1)}
    told |= {"processor_s": round(processor_s() - used, 1), "exit": done.returncode}
    rows: list[dict[str, object]] = []
    if done.returncode == LEFT_OUT:
        return told | {"left_out": (complaint or said).splitlines()[-1:]}, rows
    try:
        for figure in bench.figures if is_full else map(small, bench.figures):
            name, *path = figure.source.split("|")
            if (folder / f"{name}.json").stat().st_mtime < started:
                raise LookupError(f"{name}.json was not written")
            value = claims.look_up(name, path, folder)
            bound = figure.least if figure.least is not None else figure.most
            rows.append({"benchmark": bench.script, "what": figure.what, "value": value, "bound": bound})
            rows[-1] |= {"is_least": figure.least is not None, "holds": figure.holds(value)}
    except (LookupError, OSError) as error:
        told["lacks"] = str(error)
    # 1 is also a script's word for a floor that it missed: with its figures written it ran.
    if done.returncode not in {0, 1} or "lacks" in told or "Traceback" in complaint:
        told["died"] = (complaint or "it said nothing").splitlines()[-1]
    return told, rows


def small(figure: Figure) -> Figure:
    """A figure with the floor of a small run."""
    return figure if figure.least_small is None else replace(figure, least=figure.least_small)


def processor_s() -> float:
    """Processor seconds of all processes that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def line(row: dict[str, object]) -> str:
    """A row of the table as Markdown."""
    bound = "" if row["bound"] is None else f"{'at least' if row['is_least'] else 'at most'} {row['bound']:g}"
    holds = {None: "", True: "yes", False: "**no**"}[row["holds"]]  # type: ignore[index]
    return f"| `{row['benchmark']}` | {row['what']} | {row['value']:.3g} | {bound} | {holds} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [bench.script for bench in BENCHES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--full", action="store_true", help="full sizes, into benchmarks/results/")
    asked = parser.parse_args()
    began, told, rows = time.perf_counter(), {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for bench in BENCHES:
            if (asked.only and bench.script not in asked.only) or (asked.full and not bench.has_quick):
                continue
            told[bench.script], found = run(bench, Path(scratch), asked.full)
            rows += found
            went = told[bench.script]
            said = went.get("died") or went.get("left_out") or ", ".join(f"{row['value']:.3g}" for row in found)
            print(
                f"{bench.script:17} {went['seconds']:6} s  {went['processor_s']:6} of a core   {said}",
                file=sys.stderr,
                flush=True,
            )
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}",
        "size": "full" if asked.full else "quick",
        "seconds": round(time.perf_counter() - began),
        "processor_s": round(processor_s()),
        "peer": "img2dataset" if PEER.is_file() else "img2dataset is not installed: make peers",
        "rows": rows,
        "scripts": told,
    }
    table = ["| benchmark | what | value | floor | holds |", "|---|---|---|---|---|", *map(line, rows)]
    print("\n".join(table))
    print(f"\n{record['seconds']} s on {record['hardware']}; {record['peer']}")
    if not asked.only:
        out = HERE / "results" / ("bench_full" if asked.full else "bench")
        out.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        head = f"{record['at']}, {record['hardware']}, {record['size']}; see benchmarks/bench.py"
        out.with_suffix(".md").write_text("\n".join([head, "", *table]) + "\n")
    died = [name for name, went in told.items() if "died" in went]
    missed = [f"{row['benchmark']}: {row['what']}" for row in rows if row["holds"] is False]
    if missed:
        print("below their floors here: " + "; ".join(missed), file=sys.stderr)
    if died:
        print("died: " + ", ".join(died), file=sys.stderr)
    return 1 if died or (asked.full and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
