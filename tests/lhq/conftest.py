"""What tests of lhq share beyond a module."""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from lhq.cli import main

from . import filtered
from .typed import Done, Lhq


@pytest.fixture
def lhq(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lhq:
    """The command's own entry point, in this process, without keys."""
    for name in ("UNSPLASH_ACCESS_KEY", "FLICKR_API_KEY", "FLICKR_API_SECRET"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["lhq", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return Done(int(caught.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline file of a store of 44 photos that was filtered; read only."""
    return filtered.build(tmp_path_factory.mktemp("filtered"))


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the tests' own: `bundle` is its certificate, `context` serves as 127.0.0.1 or a name
    below `.test`."""

    bundle: Path
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    found = trustme.CA()
    bundle = tmp_path_factory.mktemp("authority") / "ca.pem"
    found.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.issue_cert("127.0.0.1", "photos.test", "localhost").configure_cert(context)
    return Authority(bundle, context)
