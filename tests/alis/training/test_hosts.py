"""Two hosts with separate disks: all processes use the first host's snapshot, whatever is on the other's disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alis.training import run_folder
from alis.training.loop import train
from tests.alis import sets
from tests.alis.training.runs import ROOT, flags, records, small, tensors


def start(folders: list[Path], data: str, **changes: object) -> list[subprocess.Popen[str]]:
    """One process on each "host", started as by torchrun, which writes to that host's folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank, out in enumerate(folders):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RANK": str(rank),
            "WORLD_SIZE": str(len(folders)),
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        line = [sys.executable, "-m", "alis", "train", "--data", data, "--config", "tiny", "--device", "cpu"]
        line += ["--out", str(out), *flags(optim__micro=4, **changes)]
        processes.append(
            subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return processes


@pytest.mark.timeout(900)
def test_a_killed_run_resumes_from_the_first_hosts_disk(tmp_path: Path) -> None:
    data = str(sets.write(tmp_path / "scenes", 64, size=16, per_file=64, paint=sets.scenery))
    hosts = [tmp_path / "host0" / "run", tmp_path / "host1" / "run"]
    endless = {"run__kimg": 1000, "run__tick_kimg": 0.016, "run__snapshot_ticks": 1}
    augmented = {"augment__kind": "ada", "augment__p": 0.3, "augment__speed_kimg": 1}
    processes = start(hosts, data, **endless, **augmented)
    first = processes[0]
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("wrote"):
            break
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate()
    saved = run_folder.newest(hosts[0])
    assert saved is not None
    end = int(saved.name) + 24
    processes = start(hosts, data, run__kimg=end / 1000, **augmented)
    said = [process.communicate(timeout=800) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert f"continuing from {saved}" in said[0][1]
    assert said[0][0].strip() == str(hosts[0] / "snapshots" / f"{end:09d}")
    assert said[1][0] == "", "the second host has no snapshot to name"
    assert run_folder.snapshots(hosts[1]) == []
    one = tmp_path / "one"
    train(small(optim__micro=4, run__kimg=end / 1000, **augmented), data, one, device="cpu")
    together, alone = (tensors(run / "snapshots" / f"{end:09d}") for run in (hosts[0], one))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=5e-3, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")
    assert records(hosts[0])[-1]["loss_d"] == pytest.approx(records(one)[-1]["loss_d"], rel=1e-2)

    processes = start(hosts[::-1], data, run__kimg=1000)  # the hosts in the other order
    said = [process.communicate(timeout=800) for process in processes]
    assert all(process.returncode for process in processes)
    assert f"process 1 has a snapshot of {end} images there, process 0 has none; start that host as" in said[0][1]
    assert not any("Traceback" in err for _, err in said), said
