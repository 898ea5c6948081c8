"""Many processes, one run: who am I, sum this, wait for all; a no-op when there is one process.

Processes are started by `torchrun`, which says rank and world in the environment: NCCL where there is a GPU
for each, gloo on CPUs. Gradients are summed by `sum_gradients` in one flat message instead of a DDP wrapper:
second derivatives, gradient accumulation and several backward passes a step then need no special care; the
price is that the message does not overlap the backward pass (about 1 ms for 100 MB on NVLink).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as td

from alis.errors import AlisError, RunError

T = TypeVar("T")


def start(device: str = "auto") -> torch.device:
    """Join the run that `torchrun` describes (or stand alone) and return this process's device.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        RunError: a GPU was asked for and there is none, or the other processes can't be reached.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise RunError(f"--device {device}: torch sees no GPU", hint="use --device cpu, or mend the driver")
        if local >= torch.cuda.device_count():
            raise RunError(
                f"process {local} of this host has no GPU of its own ({torch.cuda.device_count()} seen)",
                hint="start as many processes as GPUs: torchrun --nproc-per-node=N",
            )
    chosen = torch.device(f"cuda:{local}" if device == "cuda" else device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        exact_float32()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not td.is_initialized():
        # Its functions keep the group that there is at their import, as a default argument. Imported in the midst of a
        # run (by `datasets`, for one), they held gloo's threads beyond `stop`; one exit in four was an abort.
        importlib.import_module("torch.distributed.nn")
        try:
            with _stdout_is_stderr():
                td.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise RunError(f"can't join the other processes: {error}", hint="start all with torchrun") from error
    return chosen


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """What libraries print meanwhile goes to stderr: gloo of torch 2.10 says on stdout who has joined, where a
    command's result belongs."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def exact_float32() -> None:
    """Products and convolutions of float32 keep its 24 bits on a GPU, as the published training does.

    torch lets convolutions round their inputs to TF32's 11 bits unless told; a published frame was then 1e-3 off,
    measured on an H100, and 1e-6 without. The high resolutions, where the time goes, run in half precision anyway.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def fast_float32() -> None:
    """TF32 for what training computes in float32: noise of a stochastic gradient is far above its 11 bits.

    Painting and measuring stay exact.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True


def stop() -> None:
    """Leave the run."""
    if td.is_initialized():
        td.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return td.get_rank() if td.is_initialized() else 0


def is_first_of_host() -> bool:
    """Whether this process is its host's first: the one that writes to the host's own disk."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def world_size() -> int:
    """How many processes the run has."""
    return td.get_world_size() if td.is_initialized() else 1


def barrier() -> None:
    """Return when every process is here."""
    if td.is_initialized():
        td.barrier()


def all_reduce_sum_(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over processes, in place."""
    if td.is_initialized():
        td.all_reduce(tensor)
    return tensor


def broadcast(tensors: Iterable[torch.Tensor]) -> None:
    """Process 0's values into everybody's tensors, in place."""
    if td.is_initialized():
        for tensor in tensors:
            td.broadcast(tensor.detach(), src=0)


def broadcast_object(value: T) -> T:
    """Process 0's value (plain data) in everybody's hands."""
    if not td.is_initialized():
        return value
    box: list[T | None] = [value if rank() == 0 else None]
    td.broadcast_object_list(box, src=0)
    shared = box[0]
    return shared  # type: ignore[return-value]  # None only where process 0 said None


def all_gather_objects(value: T) -> list[T]:
    """Each process's value (plain data), in rank order."""
    if not td.is_initialized():
        return [value]
    values: list[T | None] = [None] * world_size()
    td.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # every place is filled


def run_on_all(work: Callable[[], T]) -> T:
    """`work()` of this process. An error in one process is an error in all: nobody waits for one that has left.

    Raises:
        AlisError: this process's own.
        RunError: another process's, with its number and words.
    """
    own: AlisError | None = None
    result: T | None = None
    try:
        result = work()
    except AlisError as error:
        own = error
    said = all_gather_objects(None if own is None else own.message)
    if own is not None:
        raise own
    for number, words in enumerate(said):
        if words is not None:
            raise RunError(f"process {number} stopped: {words}", hint="its own message says what to do")
    return result  # type: ignore[return-value]  # work() returned it


def any_true(flag: bool, device: torch.device) -> bool:
    """Whether any process says yes; the same answer in all of them."""
    return any_true_each([flag], device)[0]


def any_true_each(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """For each question whether any process says yes, in one message."""
    if not td.is_initialized():
        return list(flags)
    return [
        count > 0 for count in all_reduce_sum_(torch.tensor([float(flag) for flag in flags], device=device)).tolist()
    ]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Everybody's rows [N_r, F] one after another in rank order [sum N_r, F]; N_r may differ."""
    if not td.is_initialized():
        return rows
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    td.all_gather(counts, torch.tensor(len(rows), dtype=torch.int64, device=rows.device))
    longest = max(int(count) for count in counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.zeros_like(padded) for _ in range(world_size())]
    td.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def sum_gradients(parameters: Iterable[torch.nn.Parameter], also: torch.Tensor) -> torch.Tensor:
    """Sum `.grad` and the figures `also` [K] over processes as one flat message; returns the summed figures.

    NaN and ±inf of gradients become 0 and ±1e5 (the published recipe's guard against a half-precision overflow).
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not td.is_initialized():
        for grad in grads:
            torch.nan_to_num(grad, nan=0.0, posinf=1e5, neginf=-1e5, out=grad)
        return also
    flat = all_reduce_sum_(torch.cat([also, *(grad.reshape(-1) for grad in grads)]))
    offset = len(also)
    values = torch.nan_to_num(flat[offset:], nan=0.0, posinf=1e5, neginf=-1e5)
    for grad, value in zip(grads, values.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(value.view_as(grad))
    return flat[:offset]
