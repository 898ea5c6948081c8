"""A phase of a training step as one CUDA graph: a few thousand launches become one.

A recorded phase holds everything of it: codes drawn, forward, backward, the guard against overflow, the optimiser. What
changes from step to step lies in tensors of fixed places: weights, Adam's moments and step, the real pictures. The seed
is set outside, before every replay: the generator of random numbers hands it to the graph as a tensor.
Source: the CUDA semantics page of PyTorch ("CUDA Graphs", whole-network capture).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

log = logging.getLogger("alis")
WARM = 3
"""Steps taken as they come before one is recorded: libraries choose their kernels, optimisers make their moments."""


class Graphs:
    """Phases by key: the first `WARM` calls of each run as they come, the next is recorded, the others are replayed.

    Every call is a true step: nothing is run for practice. A phase that can't be recorded goes on as it comes, which is
    said once. All graphs share one pool of memory, since they run one after the other.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._side = torch.cuda.Stream()
        self.has_failed = False

    def run(self, key: Hashable, phase: Callable[[], Tensor]) -> Tensor:
        """What `phase` gives: a tensor that the next call with this key writes over.

        Args:
            key: the phase and all that it does differently by Python's doing, e.g. whether shifts still ramp up.
        """
        if key in self._graphs:
            graph, result = self._graphs[key]
            graph.replay()
            return result
        calls = self._calls[key] = self._calls.get(key, 0) + 1
        if calls <= WARM or self.has_failed:
            return self._aside(phase)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._side):
                result = phase()
        except RuntimeError as error:
            self.has_failed = True
            first = str(error).strip().splitlines()[0]
            log.warning("phases can't be recorded as CUDA graphs (%s): going on without", first)
            return self._aside(phase)
        self._graphs[key] = graph, result
        graph.replay()
        return result

    def _aside(self, phase: Callable[[], Tensor]) -> Tensor:
        """On the stream that will record, so that what libraries keep for a stream is there already."""
        here = torch.cuda.current_stream()
        self._side.wait_stream(here)
        with torch.cuda.stream(self._side):
            result = phase()
        here.wait_stream(self._side)
        return result
