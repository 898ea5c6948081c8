"""Files of JSON lines ↔ records: metrics.jsonl of a run, evaluation.jsonl of a model. Each line holds its checksum."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lhq import checked_json

log = logging.getLogger("alis")


def line(record: Mapping[str, Any]) -> str:
    """The line to append for a record."""
    return json.dumps(checked_json.sealed(record)) + "\n"


def read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(line, record) of each line that is a record as it was written; other lines are counted in a warning.

    The last one may be incomplete without a word: a run is writing it, or was killed.
    """
    found, bad = [], []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = checked_json.opened(json.loads(line))
            is_sound = isinstance(record.get("images", 0), (int, float))
        except (ValueError, AttributeError, RecursionError):
            is_sound = False
        if is_sound:
            found.append((line, record))
        elif number < len(lines) or text.endswith("\n"):
            bad.append(number)
    if bad:
        log.warning("%s: %d damaged lines left out, the first is line %d", path, len(bad), bad[0])
    return found
