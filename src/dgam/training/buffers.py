"""Memory that one training step leaves for the next: fresh pages cost more than the arithmetic on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Buffers:
    """Named tensors that keep their memory between steps, whatever is in them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor with undefined content; a later call by the same name gives the same memory.

        A smaller shape, as of an epoch's last batch, uses a part of it.
        """
        size = math.prod(shape)
        memory = self._memory.get((name, dtype))
        if memory is None or memory.numel() < size:
            memory = torch.empty(size, dtype=dtype, device=self._device)
            self._memory[name, dtype] = memory
        return memory[:size].view(shape)

    def held(self) -> tuple[Tensor, ...]:
        """All memory as it is now. Who keeps it keeps it from being freed when a larger tensor is asked for
        by the same name."""
        return tuple(self._memory.values())
