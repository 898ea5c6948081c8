"""What stands around the loop: where its words go, what it measures, what a dry run says."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from alis import dist, train
from alis.data import open_catalogue
from alis.recipe import TrainConfig


def launch(data: str, config: TrainConfig, run: Path, *, resume: str, device: str, is_dry: bool) -> str:
    """Train (or only say what would be) and return what goes to stdout: the last snapshot's folder, or JSON.

    Raises:
        AlisError: as `alis.train.train`.
    """
    _talk(run)
    if is_dry:
        catalogue = open_catalogue(data, config.data.column)
        about = {"address": data, "num_images": catalogue.num_images, "fingerprint": catalogue.fingerprint}
        resolved = config.resolved(int(os.environ.get("WORLD_SIZE", "1")))
        return json.dumps({"data": about, "out": str(run), "config": resolved.model_dump()}, indent=1)
    try:
        return str(train.train(config, data, run, resume=resume, device=device))
    finally:
        dist.stop()


def _talk(run: Path) -> None:
    """Process 0 talks to stderr; the others only warn."""
    logger = logging.getLogger("alis")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO if int(os.environ.get("RANK", "0")) == 0 else logging.WARNING)
