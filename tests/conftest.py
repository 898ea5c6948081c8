"""What every test shares: the folder of outside material, skipped with a reason where it is absent; a bucket."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A suite started in the background inherits an ignored SIGINT, and so would every command it tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_VARIABLE = "LHQ_SHARED"  # benchmarks/material.py reads the same
SHARED = Path(os.environ.get(SHARED_VARIABLE) or Path(__file__).parents[2] / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs, nasty files and fixtures: $LHQ_SHARED, else shared/ beside the project."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get(SHARED_VARIABLE):
        pytest.fail(f"{SHARED_VARIABLE}={SHARED}: no such folder")
    pytest.skip(f"needs real photographs, which are not part of the project: set {SHARED_VARIABLE} to their folder")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket on loopback, with keys for it in the environment."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    import boto3
    import requests

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()  # one of another test would go on with that test's server
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60)  # its buckets outlive a server of the process
        boto3.resource("s3").create_bucket(Bucket="lhq")
        yield "s3://lhq"
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
