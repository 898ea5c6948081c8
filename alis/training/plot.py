"""Runs → one picture of their training curves, from metrics.jsonl; an HTML page also shows the newest samples."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alis.errors import InputError, WeightsMissing
from alis.training import json_lines

# The panels in order: title, figures, whether the axis is logarithmic.
_PANELS = (
    ("losses", ("loss_g", "loss_d"), False),
    ("signs of logits", ("sign_real", "sign_fake"), False),
    ("R1: squared gradient", ("r1",), True),
    ("path length", ("path_length",), False),
    ("Fréchet distances", ("fid", "inf-fid"), True),
    ("seams and repetition of the strip", ("seam", "repetition"), False),
    ("seconds per thousand images", ("s_per_kimg",), False),
    ("share of time waiting for data", ("wait_share",), False),
    ("p of augmentation", ("augment_p",), False),
)


def plot(runs: Sequence[Path], out: Path) -> Path:
    """Plot the curves of runs over images seen, and write them to `out` (.png, .svg or .html).

    Raises:
        InputError: a run has no records, or `out` has another ending.
        WeightsMissing: matplotlib is not installed.
    """
    if out.suffix not in {".png", ".svg", ".html"}:
        raise InputError(
            f"{out}: can't plot to {out.suffix or 'that'}", hint="give a name that ends in .png, .svg or .html"
        )
    records = {run: _records(run) for run in runs}
    figure = _figure(records)
    if out.suffix == ".html":
        data = _page(runs, _drawn(figure, "svg").decode()).encode()
    else:
        data = _drawn(figure, out.suffix[1:])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error})", hint="give another -o") from None
    return out


def _records(run: Path) -> list[dict[str, float]]:
    """A run's records, with those that `alis evaluate` added to its snapshots."""
    found = []
    for path in (run / "metrics.jsonl", *sorted(run.glob("snapshots/*/evaluation.jsonl"))):
        if not path.is_file():
            continue
        about = {"images": _images(path)} if path.name == "evaluation.jsonl" else {}
        found += [{**about, **record} for _, record in json_lines.read(path) if about or "images" in record]
    if not found:
        raise InputError(
            f"{run}: no metrics.jsonl with records", hint="give a run's folder, as written by `alis train --out`"
        )
    return sorted(found, key=lambda record: record["images"])


def _images(path: Path) -> int:
    return int(path.parent.name)


def _figure(records: dict[Path, list[dict[str, float]]]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise WeightsMissing("plots need matplotlib", hint="pip install matplotlib") from None
    shown = [
        (title, names, is_log)
        for title, names, is_log in _PANELS
        if any(record.get(name) for run in records.values() for record in run for name in names)
    ]
    figure = Figure(figsize=(10, 2.6 * math.ceil(len(shown) / 2)), layout="constrained")
    for number, (title, names, is_log) in enumerate(shown):
        axes = figure.add_subplot(math.ceil(len(shown) / 2), 2, number + 1)
        for run, found in records.items():
            for name in names:
                points = [(r["images"] / 1000, r[name]) for r in found if isinstance(r.get(name), (int, float))]
                if points:
                    label = name if len(records) == 1 else f"{run.name}: {name}"
                    axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 30 else None, ms=3)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("thousand images", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        low, high = axes.get_ylim()
        if is_log and (low <= 0 or high > 10 * low):
            axes.set_yscale("log")
        axes.legend(fontsize=7)
    return figure


def _drawn(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=110)
    return buffer.getvalue()


def _page(runs: Sequence[Path], curves: str) -> str:
    parts = [f"<h1>{html.escape(', '.join(run.name for run in runs))}</h1>", curves[curves.index("<svg") :]]
    for run in runs:
        snapshots = sorted(run.glob("snapshots/*/config.json"))
        for name in ("strip.png", "frames.png"):
            path = snapshots[-1].parent / name if snapshots else None
            if path is not None and path.is_file():
                data = base64.b64encode(path.read_bytes()).decode()
                caption = html.escape(f"{run.name}, {int(path.parent.name):,} images: {name}")
                parts.append(
                    f'<figure><img src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
                )
    style = (
        "body{font:14px sans-serif;margin:2em auto;max-width:1100px}img{max-width:100%}svg{max-width:100%;height:auto}"
    )
    return f"<!doctype html><meta charset=utf-8><title>alis</title><style>{style}</style>{''.join(parts)}\n"
