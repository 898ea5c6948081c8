"""Files of JSON lines ↔ records: metrics.jsonl of a run, evaluation.jsonl of a model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger("alis")


def read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(line, record) of each line that is a record with numbers; other lines are counted in a warning.

    The last one may be incomplete without a word: a run is writing it, or was killed.
    """
    found, bad = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            is_sound = isinstance(record, dict) and isinstance(record.get("images", 0), (int, float))
        except (ValueError, RecursionError):
            is_sound = False
        if is_sound:
            found.append((line, record))
        elif number < len(lines):
            bad.append(number)
    if bad:
        log.warning("%s: %d damaged lines left out, the first is line %d", path, len(bad), bad[0])
    return found
