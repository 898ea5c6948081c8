"""A phase of a training step as one CUDA graph: one launch instead of a few thousand.

The graph records the whole phase: drawing codes, forward, backward, the overflow guard and the optimiser. What changes
from step to step is in tensors with fixed addresses: weights, Adam's moments and step, the real pictures. The seed is
set outside the graph before every replay; the random number generator passes it to the graph as a tensor.
Source: the CUDA semantics page of PyTorch ("CUDA Graphs", whole-network capture).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

log = logging.getLogger("alis")
NUM_WARMUP = 3
"""Eager steps before recording: libraries choose their kernels, optimisers allocate their moments."""


class CudaGraphs:
    """Phases by key: the first `NUM_WARMUP` calls run eagerly, the next is recorded, all later ones are replayed.

    Every call is a real training step, also while warming up. A phase that can't be recorded continues to run eagerly,
    with one warning. All graphs share one memory pool, since they run one after the other.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._side = torch.cuda.Stream()
        self.has_failed = False

    def run(self, key: Hashable, phase: Callable[[], Tensor]) -> Tensor:
        """The result of `phase`: a tensor that the next call with this key overwrites.

        Args:
            key: the phase, and everything that Python code makes it do differently, e.g. whether shifts still ramp up.
        """
        if key in self._graphs:
            graph, result = self._graphs[key]
            graph.replay()
            return result
        calls = self._calls[key] = self._calls.get(key, 0) + 1
        if calls <= NUM_WARMUP or self.has_failed:
            return self._run_on_side_stream(phase)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._side):
                result = phase()
        except RuntimeError as error:
            self.has_failed = True
            first = str(error).strip().splitlines()[0]
            log.warning("phases can't be recorded as CUDA graphs (%s): continuing without", first)
            return self._run_on_side_stream(phase)
        self._graphs[key] = graph, result
        graph.replay()
        return result

    def _run_on_side_stream(self, phase: Callable[[], Tensor]) -> Tensor:
        """Run on the stream that will record, so that what libraries cache per stream is there already."""
        here = torch.cuda.current_stream()
        self._side.wait_stream(here)
        with torch.cuda.stream(self._side):
            result = phase()
        here.wait_stream(self._side)
        return result
