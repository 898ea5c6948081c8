"""What a pipeline file says about rights: which reservations bind, who is denied, what was permitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lhq.rights.denied import Denied
from lhq.rights.permissions import Permission
from lhq.rights.reservations import SIGNALS


@dataclass(frozen=True)
class Policy:
    """`honour` are the signals that bind (all of them unless told otherwise), `permissions` those that the pipeline
    file states today, by source."""

    honour: tuple[str, ...] = tuple(SIGNALS)
    denied: Denied = field(default_factory=Denied)
    permissions: Mapping[str, Permission] = field(default_factory=dict)

    def allowed(self, rows: pa.Table) -> tuple[np.ndarray, Counter[str]]:
        """Rows that no reservation and no line of the deny list keeps out: bool [N]; and why the others are out."""
        keep = np.ones(len(rows), bool)
        why: Counter[str] = Counter()
        honoured = set(self.honour)
        for row, reserved in enumerate(rows["reserved"].to_pylist()):
            if reason := next((name for name in reserved if name in honoured), ""):
                keep[row] = False
                why[f"reserved by {reason}"] += 1
        if self.denied:
            papers = (rows[name].to_pylist() for name in ("author", "attribution", "page_url", "author_url", "url"))
            for row, (author, attribution, *addresses) in enumerate(zip(*papers, strict=True)):
                if keep[row] and self.denied.why([author, attribution], addresses):
                    keep[row] = False
                    why["denied by the deny list"] += 1
        return keep, why
