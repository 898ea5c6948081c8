"""lhq: from search queries to a published dataset of landscape photographs.

import lhq
pipeline = lhq.load("pipelines/quickstart.toml")
pipeline.crawl()
pipeline.filter()
pipeline.export()
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhq.export.verify import VerifyReport
    from lhq.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__", "load", "verify"]


def __getattr__(name: str) -> object:
    if name != "Pipeline":
        raise AttributeError(f"module 'lhq' has no attribute {name!r}")
    from lhq.pipeline import Pipeline

    return Pipeline


def load(path: str | os.PathLike[str]) -> Pipeline:
    """A pipeline file, read and checked; its stages are methods of what is returned.

    Raises:
        lhq.errors.ConfigError: names file, table, key and next move.
    """
    from lhq import pipeline  # at first use: `import lhq` costs nothing

    return pipeline.load(path)


def verify(folder: str | os.PathLike[str]) -> VerifyReport:
    """Check a dataset that an export wrote: schema, counts, card, every sha256, every picture.

    Raises:
        lhq.errors.InputError: there is no dataset.
    """
    from lhq import pipeline

    return pipeline.verify(os.fspath(folder))
