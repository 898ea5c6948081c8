"""Kept photos → rows: the join of photos and verdicts, published as Parquet that `datasets` loads as it is."""

from __future__ import annotations

from typing import Literal

import pydantic

from lhq.config import Settings


class ExportSettings(Settings):
    """`[export]`: what is published, and how."""

    to: str = ""
    """Folder of the dataset; empty: `export` inside the store."""
    variants: tuple[str, ...] = ("1024",)
    validation: float = pydantic.Field(0.01, ge=0, lt=1)
    publish: Literal["bytes", "manifest", "private"] = "private"
    seed: int = 0
