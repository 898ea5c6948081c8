"""Multi-process training: rank, sums, barriers and broadcasts; no-ops when there is only one process.

`torchrun` starts the processes and sets rank and world size in the environment. NCCL is used if each process has a GPU,
gloo on CPUs. `sum_gradients` sums all gradients in one flat message instead of a DDP wrapper: second derivatives,
gradient accumulation and several backward passes per step then need no special care. The price: the message does not
overlap the backward pass (about 1 ms for 100 MB on NVLink).
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
    """Join the process group that `torchrun` describes, if any, and return this process's device.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        RunError: a GPU was requested and there is none, or the other processes can't be reached.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise RunError(f"--device {device}: torch sees no GPU", hint="use --device cpu, or repair the driver")
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
        # Its functions store the current group in default arguments when imported. Imported during a run (e.g. by
        # `datasets`), they kept gloo's threads alive after `stop`, and one exit in four was an abort.
        importlib.import_module("torch.distributed.nn")
        try:
            with _stdout_is_stderr():
                td.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise RunError(f"can't join the other processes: {error}", hint="start all with torchrun") from error
    return chosen


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Redirect stdout to stderr: gloo of torch 2.10 prints who has joined to stdout, where a command's result goes."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def exact_float32() -> None:
    """Compute float32 matrix products and convolutions in full precision on a GPU, as the published training does.

    By default, torch lets convolutions round their inputs to TF32's 11 bits; then a published frame was 1e-3 off,
    measured on an H100, instead of 1e-6. The high resolutions, which take most of the time, run in half precision.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def fast_float32() -> None:
    """Allow TF32 in training: the noise of stochastic gradients is far above the error of its 11 bits.

    Painting and metrics use `exact_float32`.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True


def stop() -> None:
    """Leave the process group."""
    if td.is_initialized():
        td.destroy_process_group()


def rank() -> int:
    """This process's rank, from 0."""
    return td.get_rank() if td.is_initialized() else 0


def is_first_of_host() -> bool:
    """Whether this process is the first of its host, which writes to the host's disk."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def world_size() -> int:
    """The number of processes."""
    return td.get_world_size() if td.is_initialized() else 1


def barrier() -> None:
    """Wait until all processes have called this."""
    if td.is_initialized():
        td.barrier()


def all_reduce_sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over processes, in place."""
    if td.is_initialized():
        td.all_reduce(tensor)
    return tensor


def broadcast(tensors: Iterable[torch.Tensor]) -> None:
    """Copy process 0's values into the tensors of all processes, in place."""
    if td.is_initialized():
        for tensor in tensors:
            td.broadcast(tensor.detach(), src=0)


def broadcast_object(value: T) -> T:
    """Process 0's value (picklable data), in all processes."""
    if not td.is_initialized():
        return value
    box: list[T | None] = [value if rank() == 0 else None]
    td.broadcast_object_list(box, src=0)
    shared = box[0]
    return shared  # type: ignore[return-value]  # None only if process 0's value is None


def all_gather_objects(value: T) -> list[T]:
    """The values of all processes (picklable data), in rank order."""
    if not td.is_initialized():
        return [value]
    values: list[T | None] = [None] * world_size()
    td.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # every place is filled


def run_on_all(work: Callable[[], T]) -> T:
    """Run `work()` in every process; an error in one becomes an error in all, so that no process waits for ever.

    Raises:
        AlisError: raised by `work()` in this process.
        RunError: raised in another process, with its rank and message.
    """
    own: AlisError | None = None
    result: T | None = None
    try:
        result = work()
    except AlisError as error:
        own = error
    messages = all_gather_objects(None if own is None else own.message)
    if own is not None:
        raise own
    for number, message in enumerate(messages):
        if message is not None:
            raise RunError(f"process {number} stopped: {message}", hint="its own message says what to do")
    return result  # type: ignore[return-value]  # work() returned it


def any_true(flag: bool, device: torch.device) -> bool:
    """Whether the flag is true in any process; the same answer in all of them."""
    return any_true_each([flag], device)[0]


def any_true_each(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is true in any process; one message for all flags."""
    if not td.is_initialized():
        return list(flags)
    return [
        count > 0 for count in all_reduce_sum_(torch.tensor([float(flag) for flag in flags], device=device)).tolist()
    ]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows [N_r, F] of all processes in rank order: [sum N_r, F]; N_r may differ."""
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


def sum_gradients(parameters: Iterable[torch.nn.Parameter], figures: torch.Tensor) -> torch.Tensor:
    """Sum `.grad` and `figures` [K] over processes in one flat message; returns the summed figures.

    NaN and ±inf in gradients become 0 and ±1e5: the published recipe's guard against overflow in half precision.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not td.is_initialized():
        for grad in grads:
            torch.nan_to_num(grad, nan=0.0, posinf=1e5, neginf=-1e5, out=grad)
        return figures
    flat = all_reduce_sum_(torch.cat([figures, *(grad.reshape(-1) for grad in grads)]))
    offset = len(figures)
    values = torch.nan_to_num(flat[offset:], nan=0.0, posinf=1e5, neginf=-1e5)
    for grad, value in zip(grads, values.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(value.view_as(grad))
    return flat[:offset]
