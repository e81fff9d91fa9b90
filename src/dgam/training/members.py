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
_LARGE = 1 << 30  # multiplications of a product that fills a GPU


@dataclass(frozen=True)
class Numbers:
    """What may differ between members, each (E, 1) in the losses' precision.

    ``offsets`` and ``weights`` (E, 1, 2) hold those of foreground and background side by side.
    """

    foreground: Tensor
    alpha: Tensor
    beta: Tensor
    gamma1: Tensor
    gamma2: Tensor
    sigma2: Tensor
    cvae_weight: Tensor
    r: Tensor
    offsets: Tensor
    weights: Tensor

    @classmethod
    def of(cls, settings: Sequence[LossSettings], r: Sequence[float], like: Tensor) -> Numbers:
        """Of E members' settings and prior discrepancies, on the device and in the dtype of ``like``."""

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)  # (E, 1)

        def own(name: str) -> Tensor:
            return column([getattr(one, name) for one in settings])

        alone = ("foreground", "alpha", "beta", "gamma1", "gamma2", "sigma2", "cvae_weight")
        return cls(
            **{name: own(name) for name in alone},
            r=column(r),
            offsets=torch.stack([own("foreground_offset"), own("background_offset")], dim=2),
            weights=torch.stack([own("foreground"), own("alpha")], dim=2),
        )


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Matrix products (E, m, k) @ (E, k, l) to (E, m, l), into ``out`` where given."""
    if a.shape[0] > 1:
        return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)
    if out is None:
        return torch.mm(a[0], b[0]).unsqueeze(0)
    torch.mm(a[0], b[0], out=out[0])
    return out


def over_snippets(x: Tensor, out: Tensor) -> Tensor:
    """x (E, n, k) summed over n into ``out`` (E, k), in its dtype; on a CPU in parts, so that rounding
    averages out."""
    if x.is_cuda:
        return torch.sum(x, dim=1, dtype=out.dtype, out=out)
    parts = math.gcd(x.shape[1], _PARTS)
    sums = x.view(x.shape[0], parts, -1, x.shape[2]).sum(dim=2)  # (E, parts, k)
    return torch.sum(sums.to(out.dtype), dim=1, out=out)


def outer(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Σ over n of a (E, n, p) times b (E, n, q), into ``out`` (E, p, q) in its dtype: a weight's gradient.

    Where it pays, n is summed in parts: bfloat16 on a CPU is faster so and rounds less, and on a GPU the
    batched products of several members, unlike a single one, do not part long sums by themselves.
    """
    members, rows = a.shape[:2]
    narrow = a.dtype != out.dtype and a.is_contiguous() and b.is_contiguous()
    if not (members > 1 if a.is_cuda else narrow):
        return product(a.mT, b, out) if a.dtype == out.dtype else out.copy_(product(a.mT, b))
    parts = math.gcd(rows, 16 if a.is_cuda else 4)
    left, right = (x.view(members * parts, rows // parts, -1) for x in (a, b))
    sums = torch.bmm(left.mT, right)  # (E·parts, p, q)
    return torch.sum(sums.view(members, parts, *sums.shape[1:]), dim=1, dtype=out.dtype, out=out)


def outer_with_features(a: Tensor, x: Tensor, buffers: Buffers) -> Tensor:
    """Σ over n for the widest factor there is, the features x (E, n, d): a (E, n, p) to (E, p, d), in their
    dtype.

    bfloat16 products on a CPU are faster with ``a`` turned, even counting the turning, where its rows do not
    lie end to end.
    """
    members, rows, width = a.shape
    if members > 1 and a.is_cuda and a.dtype != torch.bfloat16 and fills_gpu(a[0], x.shape[2]):
        out = x.new_empty(members, width, x.shape[2])
        for own, features, into in zip(a, x, out, strict=True):
            torch.mm(own.mT, features, out=into)
        return out
    if a.dtype != torch.bfloat16 or a.is_cuda or a.is_contiguous():
        return product(a.mT, x)
    turned = buffers.get("turned", (members, width, rows), a.dtype)
    for start in range(0, rows, _TURNED):
        turned[..., start : start + _TURNED] = a[:, start : start + _TURNED].mT
    return product(turned, x)


def fills_gpu(x: Tensor, width: int) -> bool:
    """Whether one member's product, of x (n, k) to ``width`` numbers, keeps a GPU busy by itself."""
    return x.numel() * width > _LARGE


def masked(gradient: Tensor, units: Tensor, out: Tensor) -> Tensor:
    """The gradient where a unit after ReLU is above 0, else 0, into ``out``, which may be either of them."""
    torch.ops.aten.threshold_backward.grad_input(gradient, units, 0, grad_input=out)
    return out
