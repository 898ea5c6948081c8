"""Shard keys → shard reports on this machine: processes for the CPU lane, one worker a GPU for the GPU lane.

Workers of the CPU lane are forked from a clean process that has imported the job's module once: a second of
processor time a worker less than starting each anew, and what they imported is in memory once.

A worker that dies (a decoder's segfault, the kernel's out-of-memory killer) takes the whole pool with it and
nobody knows which shard it was: the shards that were under way are run again one by one, each in a pool of its
own. The guilty one is then taken row by row, each row in a process of its own, and costs that row alone.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import pyarrow as pa

from lhq.engines import Engine, Job, ShardReport
from lhq.errors import ConfigError
from lhq.records import Lane
from lhq.system import has_fork, num_cores


class Local(Engine):
    """The engine of one machine.

    Args:
        workers: processes of the CPU lane; 0: as many as this process may use cores.
        soon: module of the jobs of the CPU lane that will come. The process that workers are forked from starts at
            once with it (half a second of imports), while the caller is still finding out what there is to do.
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
            _start_nursery(soon)

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        """Reports in completion order, exactly one a key.

        Raises:
            Exception: whatever `job` raises is a bug of ours and comes through with its traceback.
        """
        gpus = _num_gpus() if lane == "gpu" else 0
        workers = min(len(keys), max(gpus, 1) if lane == "gpu" else self.workers)
        if workers <= 1 and lane == "gpu":  # one model, loaded once, kept by the caller
            yield from map(job, keys)
        elif keys:
            yield from _processes(job, keys, workers, gpus)


def _processes(job: Job, keys: Sequence[str], workers: int, gpus: int) -> Iterator[ShardReport]:
    """Every key through a pool; what was under way when a worker died is run again alone."""
    waiting = list(reversed(keys))
    suspects: list[str] = []
    while waiting:
        under_way: dict[Future[ShardReport], str] = {}
        pool = _pool(job, workers, gpus)
        try:
            while waiting or under_way:
                while waiting and len(under_way) < workers:
                    key = waiting.pop()
                    under_way[pool.submit(job, key)] = key
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        continue
                    del under_way[future]
                if len(done & under_way.keys()):
                    suspects += under_way.values()
                    break
        except BrokenProcessPool:  # it broke between two submissions
            suspects += [*under_way.values(), key]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for key in suspects:
        yield _alone(job, key, gpus)


def _alone(job: Job, key: str, gpus: int) -> ShardReport:
    by_row = job.by_row()
    for attempt in (job, by_row):
        if attempt is not None:
            with _pool(job, 1, gpus) as pool:
                try:
                    return pool.submit(attempt, key).result()
                except BrokenProcessPool:
                    continue
    said = "the worker process died twice on this shard (a crash, or out of memory)"
    return ShardReport(key, error=f"{said}, and again row by row" if by_row else said, died=True)


def _pool(job: Job, workers: int, gpus: int) -> ProcessPoolExecutor:
    # Never a fork of this process: with Arrow's threads alive that can hang. CUDA survives no fork at all.
    context = multiprocessing.get_context("spawn" if gpus or not has_fork else "forkserver")
    if not gpus and has_fork:
        _start_nursery(type(job).__module__)
    turns = context.Queue()
    for worker in range(workers):
        turns.put(worker)
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(turns, gpus, dict(os.environ))
    )


def _start_nursery(module: str) -> None:
    """The process that workers are forked from, if it does not run yet: one thread, deaf to Ctrl-C from the start."""
    from multiprocessing import forkserver, resource_tracker

    forkserver.set_forkserver_preload(["__main__", module])
    resource_tracker.ensure_running()  # started below, it would lift the block before the nursery is there
    threads, mask = os.environ.get("OMP_NUM_THREADS"), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _start_worker(turns: multiprocessing.Queue[int], gpus: int, environment: Mapping[str, str]) -> None:
    """One thread a worker (the pool has the cores), one GPU a worker, and Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)  # as it is now, not as it was when the nursery was started
    os.environ["OMP_NUM_THREADS"] = "1"
    keep_memory()
    turn = turns.get()
    if gpus > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(turn % gpus)


def keep_memory() -> None:
    """Let this process keep memory that it frees: photos come and go by the megabyte, and asking the kernel for the
    same pages repeatedly took a tenth of the time. Arrow's own allocator gives pages back after 10 ms without use,
    which is less than one decode takes, so Arrow allocates as everybody else. Only glibc has the switches; elsewhere
    nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that it takes
        mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)
        pa.set_memory_pool(pa.system_memory_pool())


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
