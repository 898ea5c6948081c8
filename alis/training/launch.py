"""Entry points of `alis train` and `alis evaluate`: logging, dry runs, and records of evaluations."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
from pathlib import Path

import torch

from alis import dist, metrics
from alis.data import Fit, open_catalogue
from alis.errors import ConfigError
from alis.features.extractors import open_features
from alis.metrics import EvaluationPlan
from alis.models import Generator, load
from alis.models.model_folder import DEMO, find, read_notes
from alis.training import json_lines, loop, monitor
from alis.training.recipe import TrainConfig
from lhq.cli.progress import progress
from lhq.progress import silent

log = logging.getLogger("alis")
TRAINED_AGAINST = "lite0"
"""The extractor that the projected discriminator uses: distances by it flatter a model trained against it."""
NO_FEATURES = {"eq-t", "path-length", "path-length-std"}


def launch(data: str, config: TrainConfig, run: Path, *, resume: str, device: str, is_dry: bool) -> str:
    """Train, or only describe what would be trained, and return the output: the last snapshot's folder, or JSON.

    Processes other than the first return "".

    Raises:
        AlisError: as `alis.training.loop.train`.
    """
    setup_logging()
    if is_dry:
        wanted, side = config.data, config.model.resolution
        catalogue = open_catalogue(data, wanted.column, side=side, variant=wanted.variant)
        about = {"address": data, "num_images": catalogue.num_images, "fingerprint": catalogue.fingerprint}
        resolved = config.resolved(int(os.environ.get("WORLD_SIZE", "1")))
        return json.dumps({"data": about, "out": str(run), "config": resolved.model_dump()}, indent=1)

    if config.run.metric != "none":
        if config.run.features == TRAINED_AGAINST and config.loss.discriminators != "residual":
            raise ConfigError(
                f"run: features = {TRAINED_AGAINST} is the network that the projected discriminator uses",
                hint="measure with another: --run.features detector, random, inception or a file",
            )
        open_features(config.run.features, torch.device("cpu"))  # fails now, not after hours, if weights are missing

    def measure(generator: Generator) -> tuple[str, float]:
        how, fit = config.run, _fit_for_metric(config)
        plan = EvaluationPlan((how.metric,), num=how.metric_images, features=how.features, fit=fit)
        wanted = metrics.ImageSelection(config.data.column, config.data.variant, notes=run)
        measured = metrics.measure(generator, data, plan, wanted)
        return config.run.metric, measured.figures[config.run.metric]

    try:
        asked = None if config.run.metric == "none" else measure
        last = loop.train(config, data, run, resume=resume, device=device, measure=asked)
        return "" if dist.rank() else str(last)
    finally:
        dist.stop()


def _fit_for_metric(config: TrainConfig) -> Fit:
    """How real pictures are resized for a metric: as in training, but "refuse" becomes "resize"."""
    return "resize" if config.data.fit == "refuse" else config.data.fit


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The output ("" in all processes but the first), and whether every requested metric could be measured."""

    text: str
    is_complete: bool


def evaluate(
    model: str,
    data: str | None,
    plan: EvaluationPlan,
    wanted: metrics.ImageSelection | None = None,
    *,
    device: str,
    is_json: bool,
) -> Evaluation:
    """Measure a model, append the record to its evaluation.jsonl, and return it as text for stdout.

    Raises:
        AlisError: as `alis.models.load` and `alis.metrics.measure`.
    """
    setup_logging()
    try:
        where = dist.start(device)
        folder = find(model)
        trained_with = read_notes(folder).get("trained_with")
        generator = load(folder, device=where)
        began = time.perf_counter()
        with contextlib.nullcontext(silent) if dist.rank() else progress() as on_progress:
            measured = metrics.measure(generator, data, plan, wanted, on_progress)
        if dist.rank():
            return Evaluation("", not measured.refused)
    finally:
        dist.stop()
    record = {
        **{name: round(value, 6) for name, value in measured.figures.items()},
        **dataclasses.asdict(plan),
        "extractor": measured.extractor,
        "num_real": measured.num_real,
        "num_left_out": measured.num_left_out,
        "kid_subset": measured.kid_subset,
        "refused": measured.refused,
        "trained_with": trained_with,
        "data": data,
        "fingerprint": measured.fingerprint,
        "model": str(folder),
        "noise": "random",
        "mirror": False,
        "seconds": round(time.perf_counter() - began, 1),
        "machine": monitor.machine(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    _save_record(folder, record)
    if is_json:
        return Evaluation(json.dumps(record) + "\n", not measured.refused)
    # A distance by the network that the model was trained against flatters it: mark the figure.
    flatters = trained_with is not None and plan.features == trained_with
    mark = f"  (flatters: trained against {plan.features})" if flatters else ""
    compared = measured.figures.keys() - NO_FEATURES
    lines = (f"{name:<16} {value:.4f}{mark if name in compared else ''}" for name, value in measured.figures.items())
    return Evaluation("".join(f"{line}\n" for line in lines), not measured.refused)


def _save_record(folder: Path, record: dict[str, object]) -> None:
    """Append a record to the model's evaluation.jsonl; one that can't be saved is a warning."""
    if folder == DEMO:
        log.info("the demo model's folder is part of the package: the record is not saved")
        return
    try:
        with open(folder / "evaluation.jsonl", "a", encoding="utf-8") as file:
            file.write(json_lines.line(record))
    except OSError as error:
        log.warning("%s: the record can't be saved (%s)", folder, error)


def setup_logging() -> None:
    """Log to stderr: process 0 everything from INFO, the others only warnings."""
    logger = logging.getLogger("alis")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(max(logger.level, logging.INFO if int(os.environ.get("RANK", "0")) == 0 else logging.WARNING))
