"""What `lhq doctor` and `alis doctor` find: one line a finding, and what each command lacks."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lhq.cli.extras import EXTRAS, lacking, modules_of, version_of
from lhq.cli.group import Entry


@dataclass(frozen=True)
class Finding:
    """`kind` is package, extra, gpu, key, weights, disk …; `note` says what for, where it is, or how to get it."""

    kind: str
    name: str
    is_there: bool
    note: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def installed(name: str, version: str, extras: Sequence[str]) -> Iterator[Finding]:
    """The package, its Python, and its extras, each with the modules that are missing."""
    yield Finding("package", f"{name} {version}", True, f"Python {platform.python_version()}, {platform.platform()}")
    for extra in extras:
        missing = lacking(extra)
        note = f"pip install 'lhq[{extra}]' for {', '.join(missing)}" if missing else _versions(modules_of(extra))
        yield Finding("extra", extra, not missing, note)


def can_be_made(path: Path) -> bool:
    """Whether a file and its parent folders could be created; nothing is written."""
    try:
        nearest = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    except OSError:
        return False
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _versions(modules: Iterable[str]) -> str:
    return ", ".join(f"{module} {version_of(module)}".strip() for module in modules)


def lacks_of(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Command → the modules it would not find."""
    return {name: lacking(entry.extra) for name, entry in entries.items()}


def lines(findings: Iterable[Finding], lacks: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The findings as text, then which commands run and what would make the others run."""
    for one in findings:
        mark = "ok     " if one.is_there else "missing"
        yield f"{mark}  {one.kind:<8} {one.name}{f': {one.note}' if one.note else ''}"
    broken: dict[str, list[str]] = {}
    for name, modules in lacks.items():
        if modules:
            extra = next(extra for extra in EXTRAS if set(modules) <= set(modules_of(extra)))
            broken.setdefault(extra, []).append(name)
    for extra, names in broken.items():
        yield f"missing  command  {', '.join(names)}: pip install 'lhq[{extra}]'"
    whole = [name for name, modules in lacks.items() if not modules]
    if whole:
        yield f"ok       command  {', '.join(whole)}"
