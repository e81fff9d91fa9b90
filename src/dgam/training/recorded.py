"""A step on a GPU, recorded once and replayed as a whole: hundreds of small kernels without a launch each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.training.buffers import Buffers

Step = Callable[[Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class _Recording:
    """A CUDA graph, the memory that it reads its batch from and leaves its losses in, and what else must not
    be freed while it may be replayed."""

    graph: torch.cuda.CUDAGraph
    x: Tensor
    labels: Tensor
    names: tuple[str, ...]
    losses: Tensor
    kept: tuple[Tensor, ...]


class Recorded:
    """``step`` of x and labels to losses, each (E,), whose every later call with a batch of one shape is the
    replay of the second.

    All that the step depends on besides must lie in memory that stays where it is. ``generators`` are those
    that it draws from; they move on as if it had been run. ``buffers`` is memory that it works in. A batch
    that lies where the recorded one lay is not copied. The numbers are those of the step itself, to the last
    bit.
    """

    def __init__(self, step: Step, generators: Sequence[torch.Generator], buffers: Sequence[Buffers]) -> None:
        self._step, self._generators, self._buffers = step, tuple(generators), tuple(buffers)
        self._seen: set[object] = set()
        self._recordings: dict[object, _Recording] = {}

    def __call__(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        key = x.shape, x.stride(), x.dtype, labels.shape, labels.dtype
        if key not in self._recordings:
            if key not in self._seen:  # what is made once, such as optimiser state, is made outside the graph
                self._seen.add(key)
                return self._step(x, labels)
            self._recordings[key] = self._record(x, labels)
        found = self._recordings[key]
        if found.x.data_ptr() != x.data_ptr():
            found.x.copy_(x)
        found.labels.copy_(labels)
        found.graph.replay()
        return dict(zip(found.names, found.losses.clone(), strict=True))  # the next replay writes over them

    def forget(self) -> None:
        """Drop what was recorded, as where the generators were set anew."""
        self._seen.clear()
        self._recordings.clear()

    def _record(self, x: Tensor, labels: Tensor) -> _Recording:
        graph, labels = torch.cuda.CUDAGraph(), labels.clone()
        for generator in self._generators:
            graph.register_generator_state(generator)
        torch.cuda.synchronize()
        # Other threads may ask for memory meanwhile, as those that make batches ready do.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            terms = self._step(x, labels)
            losses = torch.stack(list(terms.values()))  # (losses, E)
        kept = tuple(memory for buffers in self._buffers for memory in buffers.held())
        return _Recording(graph, x, labels, tuple(terms), losses, kept)
