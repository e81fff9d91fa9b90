"""Features as both stages of the fast step read them: scaled once, in the networks' precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.model.networks import DGAM
from dgam.training.buffers import Buffers

_BLOCK = 1 << 19
"""Numbers scaled at a time on a CPU: as many as stay in its cache from one pass to the next."""


@dataclass(frozen=True)
class Prepared:
    """x (E, B, T, d) scaled; ``kept`` is the losses' precision."""

    x: Tensor
    kept: torch.dtype
    known: Tensor | None = None

    def squares(self) -> Tensor:
        """Σ‖x‖² (E, 1) over the batch in the losses' precision, as found while scaling or found now."""
        return _squares(self.x, self.kept) if self.known is None else self.known


def prepare(
    models: Sequence[DGAM],
    x: Tensor,
    precision: torch.dtype,
    buffers: Buffers,
    *,
    scaled: bool = False,
) -> Prepared:
    """Scale ``x`` (E, B, T, d) as ``DGAM.scaled`` of each member does, and round it to ``precision``.

    ``scaled`` says that ``x`` is scaled already. Where nothing is to be done ``x`` itself is what is used.
    """
    how = "none" if scaled else models[0].shape.normalise
    kept = models[0].shift.dtype
    wanted = kept if kept == torch.float64 else precision
    if how == "none" and x.dtype == wanted:
        return Prepared(x.contiguous(), kept)
    members, videos, snippets, d = x.shape
    out = buffers.get("x", (members, videos, snippets, d), wanted)
    squares = torch.zeros(members, 1, dtype=kept, device=x.device)
    shift = torch.stack([model.shift for model in models])[:, None, None]  # (E, 1, 1, d)
    scale = torch.stack([model.scale for model in models])[:, None, None]
    step = videos if x.is_cuda else max(1, _BLOCK // (members * snippets * d))
    for start in range(0, videos, step):
        part = x[:, start : start + step]
        into = out[:, start : start + step]
        scratch = into if wanted == kept else buffers.get("scratch", tuple(part.shape), kept)
        _scale(part, how, shift, scale, scratch)
        if scratch is not into:
            into.copy_(scratch)
        squares += _squares(scratch, kept)
    return Prepared(out, kept, squares)


def _scale(x: Tensor, how: str, shift: Tensor, scale: Tensor, out: Tensor) -> None:
    """One block of ``DGAM.scaled``, into ``out``."""
    if how == "l2":
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=out.dtype).clamp_min_(1e-12)
        torch.div(x, norm, out=out)
        return
    if how == "root":
        torch.abs(x, out=out).sqrt_()
        x = torch.copysign(out, x, out=out)
    if how == "none":
        out.copy_(x)
    else:
        torch.sub(x, shift, out=out).mul_(scale)


def _squares(x: Tensor, kept: torch.dtype) -> Tensor:
    """Σ‖x‖² (E, 1) of x (E, B, T, d)."""
    if x.dtype == kept and x.shape[0] == 1 and not x.is_cuda and x.is_contiguous():
        return torch.dot(x.view(-1), x.view(-1)).view(1, 1)
    if x.dtype == kept or x.is_cuda:
        norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), dtype=kept)
        return norm.square().unsqueeze(1)
    # On a CPU bfloat16 sums slowly but multiplies fast: the sum is in the diagonals of small products.
    rows = x.reshape(-1, math.gcd(x.shape[1] * x.shape[2], 16), x.shape[3])
    diagonals = torch.bmm(rows, rows.mT).diagonal(dim1=1, dim2=2)  # (E·n / 16, 16)
    return diagonals.reshape(x.shape[0], -1).sum(dim=1, keepdim=True, dtype=kept)
