"""Where the real photographs are: $LHQ_SHARED, else shared/ beside the project. They are not part of the project."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SHARED = Path(os.environ.get("LHQ_SHARED") or Path(__file__).parents[2] / "shared")


def photographs(folder: Path) -> list[Path]:
    """The JPEG files of a folder in order of name; without any, say what is missing and leave with code 3."""
    found = sorted(folder.glob("*.jpg"))
    if not found:
        print(f"skipped: no photographs in {folder}; set LHQ_SHARED to their folder, or name one", file=sys.stderr)
        raise SystemExit(3)
    return found
