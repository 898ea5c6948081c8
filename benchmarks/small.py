"""`--quick` of every benchmark: small values, and results that do not replace the full ones."""

from __future__ import annotations

import argparse
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def parse(parser: argparse.ArgumentParser, **small: object) -> argparse.Namespace:
    """The arguments, with `--quick` among them; `asked.results` is the folder that results belong in.

    Args:
        small: by argument, what `--quick` puts in place of its default. One given by hand stays as given.
    """
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs; writes results/quick/")
    asked = parser.parse_args()
    if asked.quick:
        parser.set_defaults(**small)
        asked = parser.parse_args()
    asked.results = RESULTS / "quick" if asked.quick else RESULTS
    asked.results.mkdir(parents=True, exist_ok=True)
    return asked
