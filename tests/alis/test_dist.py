"""Sums, gathered rows and errors over two real gloo processes, and no-ops with one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alis import dist
from alis.errors import RunError

ROOT = Path(__file__).parents[2]

TOGETHER = """
import sys
from pathlib import Path

import torch
from alis import dist
from alis.errors import DataError, RunError
device = dist.start("cpu")
import torch.distributed.nn  # as `datasets` does, in the midst of a run
r = dist.rank()
assert dist.world_size() == 2
assert dist.all_reduce_sum_(torch.tensor([1.0 + r])).item() == 3.0
rows = dist.gather_rows(torch.full([2 + r, 3], float(r)))
assert rows.tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 3, rows
assert dist.any_true(r == 1, device) is True
assert dist.any_true(False, device) is False
assert dist.broadcast_object({"from": r}) == {"from": 0}
assert dist.all_gather_objects(r) == [0, 1]
assert dist.run_on_all(lambda: r) == r
def broken():
    if r == 1:
        raise DataError("shard 7 is damaged", hint="")
try:
    dist.run_on_all(broken)
    raise AssertionError("an error of one is an error of all")
except RunError as error:
    assert "shard 7 is damaged" in str(error)
    assert isinstance(error, DataError) == (r == 1)
    assert ("process 1 stopped" in str(error)) == (r == 0)
value = torch.tensor([float(r)])
dist.broadcast([value])
assert value.item() == 0.0
p = torch.nn.Parameter(torch.zeros(2, 2))
p.grad = torch.tensor([[1.0 + r, float("nan")], [float("inf"), -float("inf")]])
q = torch.nn.Parameter(torch.zeros(3))
figures = dist.sum_gradients([p, q], torch.tensor([5.0, float(r)]))
assert figures.tolist() == [10.0, 1.0]
assert p.grad.tolist() == [[3.0, 0.0], [1e5, -1e5]], p.grad
assert q.grad is None
dist.barrier()
dist.stop()
tasks = Path("/proc/self/task")
names = [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.exists() else []
assert not [name for name in names if "gloo" in name], f"threads of a run that was left: {names}"
Path(sys.argv[1], f"fine-{r}").touch()
"""


@pytest.mark.timeout(600)
def test_two_processes_agree(tmp_path: Path) -> None:
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        str(script),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("fine-*")) == ["fine-0", "fine-1"]


def test_one_process_needs_no_group() -> None:
    assert (dist.rank(), dist.world_size()) == (0, 1)
    assert dist.start("cpu") == torch.device("cpu")
    rows = torch.rand(3, 2)
    assert dist.gather_rows(rows) is rows
    assert dist.any_true(True, torch.device("cpu"))
    dist.barrier()
    dist.stop()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(RunError, match="--device cuda: torch sees no GPU; use --device cpu"):
        dist.start("cuda")


def test_float32_keeps_full_precision_on_a_gpu() -> None:
    from alis.painting.panorama import choose_device

    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = True
        choose_device("cpu")
        assert [place.allow_tf32 for place in places] == [False, False]
    finally:
        for place, was in zip(places, before, strict=True):
            place.allow_tf32 = was
