"""Where a pipeline file, the paths in it, and the files of the package are."""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from lhq.errors import ConfigError

log = logging.getLogger("lhq")
PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "pipelines"
LANDSCAPES = PACKAGE / "queries"


def shipped() -> list[str]:
    """Names of the pipelines that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


@dataclass(frozen=True)
class Places:
    """A pipeline file that was found at `path`, and the folder that paths in it are relative to."""

    path: Path
    folder: Path

    def place(self, given: str) -> str:
        """A path of the file, absolute; an address with `://` stays as it is.

        A path that exists in the working directory but not next to the file is found there, as in earlier versions.
        """
        if "://" in given:
            return given
        given = os.path.expanduser(given)
        beside, here = os.path.abspath(os.path.join(self.folder, given)), os.path.abspath(given)
        if beside != here and not os.path.exists(beside) and os.path.exists(here):
            log.warning(
                '%s: "%s" is in the working directory, not next to the file; "%s" is found from anywhere',
                self.path,
                given,
                os.path.relpath(here, os.path.abspath(self.folder)),
            )
            return here
        return beside


def find(given: str | os.PathLike[str]) -> Places:
    """Find a pipeline file by its path, or a shipped one by its name.

    Raises:
        ConfigError: there is none; the hint names the nearest.
    """
    path = Path(given)
    if path.is_file():
        return Places(path, path.parent)
    name = path.name.removesuffix(".toml")
    if name in shipped() and str(path.parent) in {".", "pipelines"}:
        # Paths in it are meant from a folder `pipelines` of the project, which a wheel's user need not have.
        return Places(SHIPPED / f"{name}.toml", Path("pipelines"))
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder", hint="give the pipeline file in it")
    there = {str(one): one.name for one in path.parent.glob("*.toml")} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.name, [*there.values(), *shipped()], n=1, cutoff=0.5)
    if near:
        meant = next((whole for whole, last in there.items() if last == near[0]), near[0])
        raise ConfigError(f"{path}: no such pipeline file", hint=f"did you mean {meant}?")
    raise ConfigError(
        f"{path}: no such pipeline file",
        hint=f"lhq init writes one; with the package come {', '.join(shipped())}",
    )
