"""Shard keys → shard reports on this machine: processes for the CPU lane, one worker per GPU for the GPU lane.

CPU workers are forked from a clean process that has imported the job's module once. That saves a second of processor
time per worker compared with starting each from scratch, and the imported modules are in memory only once.

A worker that dies (a segfault in a decoder, the out-of-memory killer) breaks the whole pool, without saying which shard
caused it. So the shards in progress are run again one by one, each in its own pool; the one that fails again is then
processed row by row, each row in its own process, and costs only that row.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import pyarrow as pa

from lhq.engines import Engine, Job, ShardReport
from lhq.errors import ConfigError
from lhq.processes import start_fork_server, without_main
from lhq.records import Lane
from lhq.system import has_fork, num_cores


class Local(Engine):
    """The engine of one machine.

    Args:
        workers: processes of the CPU lane; 0: one per core that this process may use.
        soon: module of the CPU jobs to come. The fork server starts at once and imports it (half a second), while the
            caller is still working out what there is to do.
    """

    def __init__(self, workers: int = 0, *, address: str = "", soon: str = "") -> None:
        if address:
            raise ConfigError(
                f'engine = "local" works here, not at {address}', hint='give engine "ray" with an address'
            )
        if workers < 0:
            raise ConfigError(f"engine workers = {workers}", hint="give 0 (all cores) or a positive number")
        self.workers = workers or num_cores()
        if soon and has_fork:
            start_fork_server(soon)

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one per key.

        Raises:
            Exception: whatever `job` raises is our bug and is raised with its traceback.
        """
        gpus = _num_gpus() if lane == "gpu" else 0
        workers = min(len(keys), max(gpus, 1) if lane == "gpu" else self.workers)
        if workers <= 1 and lane == "gpu":  # one model, loaded once, kept by the caller
            yield from map(job, keys)
        elif keys:
            yield from _processes(job, keys, workers, gpus)


def _processes(job: Job, keys: Sequence[str], workers: int, gpus: int) -> Iterator[ShardReport]:
    """Run every key through a pool; keys in progress when a worker died are run again alone."""
    waiting = list(reversed(keys))
    suspects: list[str] = []
    while waiting:
        in_progress: dict[Future[ShardReport], str] = {}
        pool = _pool(job, workers, gpus)
        try:
            while waiting or in_progress:
                while waiting and len(in_progress) < workers:
                    key = waiting.pop()
                    with without_main(job):  # a submission may start a worker
                        in_progress[pool.submit(job, key)] = key
                done, _ = wait(in_progress, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        yield future.result()
                    except _DEATHS:
                        continue
                    del in_progress[future]
                if len(done & in_progress.keys()):
                    suspects += in_progress.values()
                    break
        except BrokenProcessPool:  # it broke between two submissions
            suspects += [*in_progress.values(), key]
        except BaseException:  # interrupted: what is not written yet is done again by the next run
            _kill_workers(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for key in suspects:
        yield _alone(job, key, gpus)


# A lack of memory is told by Python, or ends the process: whichever allocator met it first.
_DEATHS = (BrokenProcessPool, MemoryError)


def _alone(job: Job, key: str, gpus: int) -> ShardReport:
    by_row = job.by_row()
    for attempt in (job, by_row):
        if attempt is not None:
            with _pool(job, 1, gpus) as pool:
                try:
                    with without_main(job):
                        submitted = pool.submit(attempt, key)
                    return submitted.result()
                except _DEATHS:
                    continue
                except BaseException:
                    _kill_workers(pool)
                    raise
    said = "the worker process died twice on this shard (a crash, or out of memory)"
    return ShardReport(key, error=f"{said}, and again row by row" if by_row else said, died=True)


def _kill_workers(pool: ProcessPoolExecutor) -> None:
    """Don't wait for shards in progress, which can take minutes, or for ever if a decoder hangs."""
    for process in list(pool._processes.values()):  # `kill_workers` from Python 3.14 on
        process.kill()


def _pool(job: Job, workers: int, gpus: int) -> ProcessPoolExecutor:
    # Never a fork of this process: with Arrow's threads alive that can hang. CUDA survives no fork at all.
    context = multiprocessing.get_context("spawn" if gpus or not has_fork else "forkserver")
    if not gpus and has_fork:
        start_fork_server(type(job).__module__)
    turns = context.Queue()
    for worker in range(workers):
        turns.put(worker)
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(turns, gpus, dict(os.environ))
    )


def _start_worker(turns: multiprocessing.Queue[int], gpus: int, environment: Mapping[str, str]) -> None:
    """Give the worker one thread (the pool uses the cores) and one GPU; the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)  # as it is now, not as when the fork server started
    os.environ["OMP_NUM_THREADS"] = "1"
    keep_memory()
    gc.freeze()  # a full collection would go through every object of the libraries, for nothing: a tenth of a second
    turn = turns.get()
    if gpus > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(turn % gpus)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next shard for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def keep_memory() -> None:
    """Let this process keep memory that it frees.

    Photos take megabytes each, and requesting the same pages from the kernel again and again took a tenth of the
    time. Arrow's own allocator returns pages after 10 ms without use, less than one decode, so Arrow uses the system
    allocator here. Only glibc has these settings; elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the largest value allowed
        mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)
        pa.set_memory_pool(pa.system_memory_pool())


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
