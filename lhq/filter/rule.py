"""One `[filter.<name>]` table as the filter uses it: a measure, its settings, and the facts that it made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lhq.store.verdicts
from lhq.errors import ShardDamaged
from lhq.images import MAX_PIXELS, max_pixels_limit
from lhq.measures import Measure, MeasureSettings
from lhq.store.shards import Shards

MADE = b"lhq.made"
"""Key in a facts file's metadata: the `Rule.made` that made it."""


@dataclass(frozen=True)
class Rule:
    """One `[filter.<name>]` table: the measure, and the settings that judge its facts."""

    measure: Measure[Any]
    settings: MeasureSettings

    @property
    def name(self) -> str:
        return self.measure.name

    def facts(self, store: str) -> Shards:
        """Where the measure's facts are kept in a store."""
        return Shards(store, f"facts/{self.name}")

    @property
    def made(self) -> str:
        """What facts of this rule are made by; facts with another word in their file are stale."""
        kind = type(self.settings)
        measuring = self.settings.model_dump(mode="json", exclude=set(kind.judgement))
        schema = {column.name: str(column.type) for column in self.measure.schema}
        made: dict[str, object] = {
            "measure": self.measure.name,
            "version": self.measure.version,
            "settings": measuring,
            "schema": schema,
        }
        if self.measure.needs_bytes and max_pixels_limit() != MAX_PIXELS:
            made["max_pixels"] = max_pixels_limit()  # which photos are refused for their size
        return json.dumps(made, sort_keys=True)


def is_measured(store: str, rule: Rule, number: int) -> bool:
    """True if a shard's facts are there, readable, and made as `rule` would make them."""
    try:
        return rule.facts(store).metadata(number).get(MADE.decode()) == rule.made
    except (ShardDamaged, FileNotFoundError):
        return False


def judged_by(rules: Sequence[Rule]) -> str:
    """What `verdicts.parquet` says of its making: all settings, in the order of judgement."""
    return lhq.store.verdicts.word({rule.name: rule.settings for rule in rules})
