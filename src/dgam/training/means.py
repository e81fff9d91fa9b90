"""What the fast step works with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dgam.training.beside import Beside
from dgam.training.buffers import Buffers
from dgam.training.passes import Passes, passes_for


@dataclass(frozen=True)
class Means:
    """Memory that stays from step to step, the passes for the device, and a second queue of work there."""

    buffers: Buffers
    passes: Passes
    beside: Beside

    @classmethod
    def of(cls, like: Tensor, buffers: Buffers | None = None) -> Means:
        """For the device and the losses' precision of ``like``; ``buffers`` where others take turns in
        them."""
        return cls(buffers or Buffers(like.device), passes_for(like), Beside(like.device))
