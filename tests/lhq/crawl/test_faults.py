"""A crawl of the sandbox through a network that delays, cuts, resets, drips and never closes: nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lhq import pipeline as way
from lhq.sandbox import Sandbox
from tests.lhq.faults import Fault, Faulty
from tests.lhq.services import kept, photo, statuses

NUM = 16
FAULTS = {
    "latency": (Fault(latency_s=0.02),),
    "cuts": tuple(Fault(cut_after=at) if at else Fault() for at in (0, 100, 30_000, 0, 700, 0, 90_000, 0)),
    "resets": tuple(Fault(cut_after=at, is_reset=True) if at else Fault() for at in (50, 0, 20_000, 0)),
    "drips": (Fault(drip_after=300, every_s=0.2), Fault(), Fault(drip_after=20_000, every_s=0.2), Fault()),
    "slow closes": (Fault(holds_end=True),),
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_the_sandbox_behind_a_bad_network(faults: tuple[Fault, ...], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2 * NUM):
        (pictures / f"lake-{number}.jpg").write_bytes(photo(number, 320, 240))
    with Sandbox(pictures, port=0) as box, Faulty(box.port, faults) as between:
        # The sandbox names its own port in every address: photos come through the fault as well only if told so.
        box.unsplash._url = f"http://{between.netloc}"
        file = tmp_path / "pipeline.toml"
        file.write_text(
            f"store = {json.dumps(str(tmp_path / 'store'))}\nqueries = ['lake']\n"
            f"want = {NUM}\n[http]\nallow_hosts = ['127.0.0.1:{box.port}', '{between.netloc}']\nrobots = false\n"
            "pace_per_s = 1000\nretry_delay_s = 0.02\nmax_attempts = 8\nread_timeout_s = 3\ntotal_timeout_s = 5\n"
            f"[source.unsplash]\napi = 'http://{between.netloc}/unsplash'\norientation = ''\nmin_side_px = 200\n"
            "max_side_px = 512\npermission = { permits = ['train'], statement = 'a sandbox' }\n"
        )
        report = way.load(file).crawl()
        found = statuses(file)
        assert report.num_kept == sum(status == "kept" for status, _ in found.values()) == min(NUM, len(found))
        rows = kept(tmp_path)
        assert len(rows) == report.num_kept
        assert max(Counter(rows["sha256"].to_pylist()).values()) <= 2
        assert between.num_connections > 1
