"""The numbers of several trainings side by side, and products of their matrices.

Everywhere in the fast step, E is the number of members (models trained side by side), the leading axis of
every tensor; n = B·T is the number of snippets in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.core.config import LossSettings
from dgam.training.buffers import Buffers

Weights = Mapping[str, Tensor]
"""A parameter's name, as ``DGAM.named_parameters`` has it, to its values (E, …) in all members."""

FORM = ("samples", "reduction", "guide_sigma", "guide_detach", "multilabel")
"""Loss settings that all members must share: they decide which arithmetic is done, not with what numbers."""

_PARTS = 64  # snippets are summed in so many parts first
_TURNED = 400  # snippets turned at a time, few enough to stay in a cache


@dataclass(frozen=True)
class Numbers:
    """What may differ between members, each (E, 1) in the losses' precision."""

    foreground: Tensor
    alpha: Tensor
    beta: Tensor
    gamma1: Tensor
    gamma2: Tensor
    sigma2: Tensor
    cvae_weight: Tensor
    foreground_offset: Tensor
    background_offset: Tensor
    r: Tensor

    @classmethod
    def of(cls, settings: Sequence[LossSettings], r: Sequence[float], like: Tensor) -> Numbers:
        """Of E members' settings and prior discrepancies, on the device and in the dtype of ``like``."""

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)  # (E, 1)

        names = [name for name in cls.__dataclass_fields__ if name != "r"]
        return cls(**{name: column([getattr(s, name) for s in settings]) for name in names}, r=column(r))


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Matrix products (E, m, k) @ (E, k, l) to (E, m, l), into ``out`` where given."""
    if a.shape[0] > 1:
        return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)
    if out is None:
        return torch.mm(a[0], b[0]).unsqueeze(0)
    torch.mm(a[0], b[0], out=out[0])
    return out


def layer(
    x: Tensor, weight: Tensor, bias: Tensor, buffers: Buffers, name: str, *, relu: bool = False
) -> Tensor:
    """A linear layer, with ReLU or not: x (E, n, k), weight (E, m, k), bias (E, m) to (E, n, m)."""
    out = buffers.get(name, (*x.shape[:2], weight.shape[1]), x.dtype)
    if x.shape[0] > 1:
        torch.baddbmm(bias.unsqueeze(1), x, weight.mT, out=out)
    else:
        torch.addmm(bias[0], x[0], weight[0].mT, out=out[0])
    return out.relu_() if relu else out


def over_snippets(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x (E, n, k) summed over n to (E, k), in ``dtype``; in parts, so that rounding averages out."""
    parts = math.gcd(x.shape[1], _PARTS)
    return x.view(x.shape[0], parts, -1, x.shape[2]).sum(dim=2).to(dtype).sum(dim=1)


def outer(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Σ over n of a (E, n, p) times b (E, n, q), to (E, p, q) in ``dtype``: a weight's gradient.

    On a CPU bfloat16 is summed in four parts, which is faster and rounds less.
    """
    members, rows, parts = *a.shape[:2], math.gcd(a.shape[1], 4)
    if a.dtype == dtype or a.is_cuda or not (a.is_contiguous() and b.is_contiguous()):
        return product(a.mT, b).to(dtype)
    left, right = (x.view(members * parts, rows // parts, -1) for x in (a, b))
    sums = torch.bmm(left.mT, right)  # (E·parts, p, q)
    return sums.view(members, parts, *sums.shape[1:]).sum(dim=1, dtype=dtype)


def outer_with_features(a: Tensor, x: Tensor, dtype: torch.dtype, buffers: Buffers) -> Tensor:
    """:func:`outer` for the widest factor there is, the features x (E, n, d): a (E, n, p) to (E, p, d).

    bfloat16 products on a CPU are faster with ``a`` turned, even counting the turning, where its rows do not
    lie end to end.
    """
    if a.dtype == dtype or a.is_cuda or a.is_contiguous():
        return product(a.mT, x).to(dtype)
    members, rows, width = a.shape
    turned = buffers.get("turned", (members, width, rows), a.dtype)
    for start in range(0, rows, _TURNED):
        turned[..., start : start + _TURNED] = a[:, start : start + _TURNED].mT
    return product(turned, x).to(dtype)


def masked(gradient: Tensor, units: Tensor, out: Tensor) -> Tensor:
    """The gradient where a unit after ReLU is above 0, else 0, into ``out``, which may be either of them."""
    torch.ops.aten.threshold_backward.grad_input(gradient, units, 0, grad_input=out)
    return out
