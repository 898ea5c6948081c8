"""One `[filter.<name>]` table of the pipeline file: a measure with its settings, and where its facts are."""

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

FACTS_ORIGIN = b"lhq.made"
"""Key in a facts file's metadata: the `Rule.fingerprint` that made it."""


@dataclass(frozen=True)
class Rule:
    """One `[filter.<name>]` table: the measure, and the settings that judge its facts."""

    measure: Measure[Any]
    settings: MeasureSettings

    @property
    def name(self) -> str:
        return self.measure.name

    def facts(self, store: str) -> Shards:
        """The measure's facts in a store."""
        return Shards(store, f"facts/{self.name}")

    @property
    def fingerprint(self) -> str:
        """Identifies measure, version, measuring settings and schema; facts with another fingerprint are stale."""
        kind = type(self.settings)
        measuring = self.settings.model_dump(mode="json", exclude=set(kind.judgement))
        schema = {column.name: str(column.type) for column in self.measure.schema}
        fingerprint: dict[str, object] = {
            "measure": self.measure.name,
            "version": self.measure.version,
            "settings": measuring,
            "schema": schema,
        }
        if self.measure.needs_bytes and max_pixels_limit() != MAX_PIXELS:
            fingerprint["max_pixels"] = max_pixels_limit()  # which photos are refused for their size
        return json.dumps(fingerprint, sort_keys=True)


def is_measured(store: str, rule: Rule, number: int) -> bool:
    """Whether a shard's facts exist, are readable and have the rule's fingerprint."""
    try:
        return rule.facts(store).metadata(number).get(FACTS_ORIGIN.decode()) == rule.fingerprint
    except (ShardDamaged, FileNotFoundError):
        return False


def judged_by(rules: Sequence[Rule]) -> str:
    """All settings in the order of judgement, as stored in `verdicts.parquet`."""
    return lhq.store.verdicts.describe_settings({rule.name: rule.settings for rule in rules})
