"""A pinned package of the npm registry → its files: downloaded once, checked against its published sha512, cached.

    ~/.cache/alis/npm/onnxruntime-web-1.30.0.tgz      ($XDG_CACHE_HOME/alis/npm if that is set)

npm is not needed, and no code of the package runs. Without a network, make the same file on another machine with
`npm pack onnxruntime-web@1.30.0` and copy it here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import requests

from alis.errors import InputError

REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_S = (10, 60)
_MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Package:
    """One version of one package; `integrity` is the base64 of its tarball's sha512, as the registry publishes it."""

    name: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        """The tarball's file name, as `npm pack` writes it."""
        return f"{self.name}-{self.version}.tgz"

    @property
    def url(self) -> str:
        """The tarball's URL in the registry; $NPM_CONFIG_REGISTRY sets another registry."""
        registry = os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
        return f"{registry.rstrip('/')}/{self.name}/-/{self.file}"

    @property
    def cached(self) -> Path:
        """The tarball's path in the cache."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(home) / "alis" / "npm" / self.file


RUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)


def tarball(package: Package, given: str | Path | None = None) -> Path:
    """The package's tarball: the given file, else the cached one, else downloaded and cached.

    Raises:
        InputError: no network and no file, or a file that is not exactly this version.
    """
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise InputError(f"{path}: no such file", hint=f"make it with: npm pack {package.name}@{package.version}")
        _check(package, path.read_bytes(), str(path))
        return path
    if not package.cached.is_file():
        data = _fetch(package)
        _check(package, data, package.url)
        package.cached.parent.mkdir(parents=True, exist_ok=True)
        part = package.cached.with_name(f".{package.file}.{os.getpid()}.part")
        part.write_bytes(data)
        os.replace(part, package.cached)
    else:
        _check(package, package.cached.read_bytes(), str(package.cached))
    return package.cached


def files(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Files of a tarball, by their names below `package/`.

    Raises:
        InputError: a file is not in the tarball.
    """
    found = {}
    with tarfile.open(path) as tar:
        for name in names:
            try:
                member = tar.extractfile(f"package/{name}")
            except KeyError:
                member = None
            if member is None:
                raise InputError(f"{path}: has no {name}", hint="give the package's own tarball")
            found[name] = member.read()
    return found


def _fetch(package: Package) -> bytes:
    try:
        with requests.get(package.url, timeout=_TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            data = b""
            for piece in answer.iter_content(1 << 20):
                data += piece
                if len(data) > _MAX_BYTES:
                    raise InputError(
                        f"{package.url}: is larger than {_MAX_BYTES} bytes", hint="check that it is an npm registry"
                    )
            return data
    except requests.RequestException as error:
        raise InputError(
            f"{package.file}: can't be downloaded from {package.url} ({_first_line(error)})",
            hint=f"on a machine with a network: npm pack {package.name}@{package.version}; "
            f"then put {package.file} at {package.cached}",
        ) from None


def _check(package: Package, data: bytes, where: str) -> None:
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package.integrity:
        raise InputError(
            f"{where}: is not {package.name} {package.version} (sha512 {found[:12]}…, not {package.integrity[:12]}…)",
            hint=f"remove it and get it again with: npm pack {package.name}@{package.version}",
        )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
