"""Logs of a run: a log line and a record per tick, sample pictures per snapshot, and run.json."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alis.metrics import strip_metrics
from alis.models import Generator, sampling
from alis.training import json_lines
from alis.training.recipe import TrainConfig
from lhq import checked_json

log = logging.getLogger("alis")
_LIBRARIES = ("torch", "numpy", "pyarrow", "safetensors", "triton", "simplejpeg")


class Monitor:
    """Averages figures over a tick and writes them to the terminal, metrics.jsonl and, if installed, TensorBoard.

    Only process 0 has one.

    Args:
        run: the run's folder.
        start: images already seen.
        total: images of the whole run.
        device: whose peak memory is logged.
    """

    def __init__(self, run: Path, *, start: int, total: int, device: torch.device) -> None:
        self.path = run / "metrics.jsonl"
        self.start, self.total, self.device = start, total, device
        self.board = _tensorboard(run, start)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._began = self._tick_began = time.perf_counter()
        self._tick_images, self._tick_wait = start, 0.0
        _drop_records_after(self.path, start)

    def add(self, **values: Tensor) -> None:
        """Add scalar tensors, on any device; does not synchronise with the device."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def tick(self, images: int, wait_s: float, **extra: float) -> dict[str, float]:
        """Write the record of a tick and return it.

        Args:
            images: images seen so far.
            wait_s: seconds spent waiting for data since the start.
            extra: further figures for the record.
        """
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        now = time.perf_counter()
        seconds, seen = now - self._tick_began, max(images - self._tick_images, 1)
        all_seconds, all_seen = now - self._began, max(images - self.start, 1)
        record = {
            "images": images,
            "kimg": images / 1000,
            "seconds": round(all_seconds, 3),
            "s_per_kimg": round(1000 * seconds / seen, 3),
            "wait_share": round((wait_s - self._tick_wait) / max(seconds, 1e-9), 4),
            "left_s": round(all_seconds / all_seen * max(self.total - images, 0)),
            "memory_mb": _peak_memory_mb(self.device),
            **{name: round(value, 6) for name, value in means.items()},
            **extra,
        }
        self.write(record)
        losses = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        log.info(
            "kimg %-8.1f s/kimg %-7.1f data wait %4.1f %%  memory %5.0f MB  %s  left %s",
            record["kimg"],
            record["s_per_kimg"],
            100 * record["wait_share"],
            record["memory_mb"],
            losses,
            duration(record["left_s"]),
        )
        self._sums, self._counts = {}, {}
        self._tick_began, self._tick_images, self._tick_wait = now, images, wait_s
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record to metrics.jsonl and TensorBoard; if the disk is full, only the record is lost."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json_lines.line({key: _plain(value) for key, value in record.items()}))
            if self.board is not None:
                for name, value in record.items():
                    if isinstance(value, (int, float)) and name not in {"images", "kimg"}:
                        self.board.add_scalar(name, value, record["images"])
                self.board.flush()
        except OSError as error:
            log.warning("%s: a record was lost (%s)", self.path, error)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def write_samples(
    folder: Path, generator: Generator, *, psi: float = 1.0, rows: int = 4, columns: int = 6
) -> dict[str, float]:
    """Write `frames.png` (a grid of frames) and `strip.png` (a panorama of eight frames), always from the same seeds.

    Returns the strip's seam and repetition metrics (docs/metrics.md).
    """
    frames = sampling.frames_aligned(generator, rows * columns, seed=0, psi=psi)
    grid = torch.cat([torch.cat(list(row), dim=2) for row in frames.unflatten(0, (rows, columns)).unbind(0)], dim=1)
    write_picture(folder / "frames.png", grid)
    strip = sampling.strip(generator, strip_metrics.FRAMES, psi=psi)
    write_picture(folder / "strip.png", strip)
    size = generator.config.resolution
    tile = size // generator.config.grid_size
    return {
        "seam": strip_metrics.seam(strip[None], tile),
        "repetition": strip_metrics.repetition(strip[None], size, tile),
    }


def write_picture(path: Path, image_3HW: Tensor) -> None:
    """Save [3, H, W] in [-1, 1] as a picture."""
    Image.fromarray(np.ascontiguousarray(sampling.to_uint8(image_3HW).permute(1, 2, 0).cpu().numpy())).save(path)


def write_run_json(
    run: Path, config: TrainConfig, data: Mapping[str, Any], images: int, *, begun_with: Path | None = None
) -> None:
    """Write run.json: settings, data, versions and hardware of this start, and the times of all starts.

    Args:
        begun_with: the folder outside the run that this start took its state from.

    Raises:
        OSError: it can't be written.
    """
    path = run / "run.json"
    starts: list[Any] = []
    if path.exists():
        try:
            before = checked_json.opened(json.loads(path.read_text(encoding="utf-8")))
            starts = [*before["starts"]]
            if before["data"]["fingerprint"] != data["fingerprint"]:
                log.warning(
                    "the data has changed since the last start: %s before, %s now",
                    before["data"]["address"],
                    data["address"],
                )
            for change in _changes(before["config"], config.model_dump()):
                log.info("changed since the last start: %s", change)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            aside = path.with_suffix(".json.damaged")
            os.replace(path, aside)
            log.warning("%s: was damaged (%s): it is replaced, and kept as %s", path, error, aside.name)
    start = {"images": images, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": sys.argv[1:]}
    starts.append(start if begun_with is None else {**start, "begun_with": str(begun_with)})
    table = {
        "config": config.model_dump(),
        "data": dict(data),
        "versions": {
            "python": platform.python_version(),
            "alis": _version("lhq"),
            **{n: _version(n) for n in _LIBRARIES},
        },
        "git": _git(),
        "machine": machine(),
        "starts": starts,
    }
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(checked_json.sealed(table), indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def _changes(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`loss.r1_gamma: 10.0 → 5.0` for each value that differs."""
    return [
        f"{section}.{name}: {before[section][name]} → {value}"
        for section, values in now.items()
        for name, value in values.items()
        if name in before.get(section, {}) and before[section][name] != value
    ]


def machine() -> dict[str, str | int | None]:
    """The machine's processor, cores and GPU."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu}


def duration(seconds: float) -> str:
    """A human-readable duration: `3d 04h`, `2h 05m`, `4m 10s`."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    return f"{days}d {h:02d}h" if days else f"{h}h {m:02d}m" if h else f"{m}m {s:02d}s"


def _drop_records_after(path: Path, images: int) -> None:
    """Drop records after this image count: a resumed run will write them again."""
    if not path.exists():
        return
    kept = [line for line, record in json_lines.read(path) if record.get("images", images + 1) <= images]
    part = path.with_suffix(".jsonl.part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, path)


def _tensorboard(run: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed: figures are only in metrics.jsonl (pip install tensorboard)")
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=start or None)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return round(peak / 2**20, 1)
    try:
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    except ImportError:
        return math.nan


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
