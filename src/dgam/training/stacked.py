"""Values for all parameters of several models of equal shape, side by side in one tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

STAGES = ("attention", "cvae")
"""What takes turns: attention with classifier, and the CVAE."""

_ALIGNED = 64  # numbers; where a parameter may begin, so that matrix units find it where they like it


class Stacked:
    """E members' values: ``all`` (E, P), and the same memory by parameter, ``named``, each (E, …).

    ``shapes`` are one model's, in the order in which its parameters are kept: attention and classifier before
    the CVAE. What lies between parameters is 0.
    """

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], members: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        begins, end = {}, 0
        for name, shape in shapes.items():
            begins[name] = end
            end += -(-math.prod(shape) // _ALIGNED) * _ALIGNED
        self._shapes, self._begins = dict(shapes), begins
        self._border = min((b for n, b in begins.items() if stage_of(n) == "cvae"), default=end)
        self.all = torch.zeros(members, end, dtype=dtype, device=device)
        self.named = {
            name: self._flat(name).view(members, *shape)  # (E, numbers) -> (E, …)
            for name, shape in self._shapes.items()
        }

    def like(self, dtype: torch.dtype | None = None) -> Stacked:
        """As many values of the same shapes, all 0."""
        return Stacked(self._shapes, len(self.all), dtype or self.all.dtype, self.all.device)

    def stage(self, stage: str) -> Tensor:
        """The values of a stage's parameters, (E, P')."""
        return self.all[:, : self._border] if stage == "attention" else self.all[:, self._border :]

    def pieces(self, name: str, member: int, most: int | None) -> list[Tensor]:
        """A member's values of a parameter, in order, as one vector or as vectors of ``most`` numbers."""
        own = self._flat(name)[member]
        return [own] if most is None else list(torch.split(own, most))

    def _flat(self, name: str) -> Tensor:
        begin = self._begins[name]
        return self.all[:, begin : begin + math.prod(self._shapes[name])]


def stage_of(name: str) -> str:
    """The stage that moves the parameter of that name."""
    return "cvae" if name.split(".")[0] == "cvae" else "attention"
