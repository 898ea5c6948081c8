"""Browser libraries that tests use, as pinned npm tarballs: `make test` fetches them; without one, its test skips.

python -m tests.alis.web.npm        # fetch all of them now
"""

from __future__ import annotations

import sys

import pytest

from alis.errors import InputError
from alis.web.npm import RUNTIME, Package, files, tarball

AXE = Package(
    "axe-core",
    "4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
OPENSEADRAGON = Package(
    "openseadragon",
    "6.1.1",
    "g4iKe2q8B642SaBT3+x4ZF3/8b1TxPPydyjmtrOLgDrlYWMKd9ZXM+1Cb/xa9DVySkvs/7l6HR1nHKfD5F3Tsw==",
)


def text(package: Package, name: str) -> str:
    """A file of a cached package; if it is not cached, the test is skipped."""
    if not package.cached.is_file():
        pytest.skip(f"{package.cached} is not here: python -m tests.alis.web.npm fetches it")
    return files(tarball(package), [name])[name].decode()


def main() -> int:
    """Download missing packages; report those that fail, without an error."""
    for package in (AXE, OPENSEADRAGON, RUNTIME):
        try:
            print(tarball(package))
        except InputError as error:
            print(f"{error}\ntests that need it will be skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
