"""The rights policy of a pipeline file: reservations to honour, deny list and permissions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lhq.rights.deny_list import DenyList
from lhq.rights.permissions import Permission
from lhq.rights.reservations import SIGNALS


@dataclass(frozen=True)
class Policy:
    """`honour` are the reservation signals that exclude a photo (default: all); `permissions` are by source."""

    honour: tuple[str, ...] = tuple(SIGNALS)
    deny_list: DenyList = field(default_factory=DenyList)
    permissions: Mapping[str, Permission] = field(default_factory=dict)

    def allowed_rows(self, rows: pa.Table) -> tuple[np.ndarray, Counter[str]]:
        """(rows excluded by neither a reservation nor the deny list: bool [N]; reason → number of excluded rows)."""
        keep = np.ones(len(rows), bool)
        why: Counter[str] = Counter()
        honoured = set(self.honour)
        for row, reserved in enumerate(rows["reserved"].to_pylist()):
            if reason := next((name for name in reserved if name in honoured), ""):
                keep[row] = False
                why[f"reserved by {reason}"] += 1
        if self.deny_list:
            papers = (rows[name].to_pylist() for name in ("author", "attribution", "page_url", "author_url", "url"))
            for row, (author, attribution, *addresses) in enumerate(zip(*papers, strict=True)):
                if keep[row] and self.deny_list.matching_entry([author, attribution], addresses):
                    keep[row] = False
                    why["denied by the deny list"] += 1
        return keep, why
