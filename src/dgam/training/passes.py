"""Passes over what is as large as a batch, between the products of the fast step.

A pass reads a tensor of the size of a hidden layer, does little with each number, and is bound by memory.
What belongs together is one function here, in PyTorch; ``fused`` has the same functions as one kernel each,
for GPUs, and :func:`passes_for` says which to take.

Shapes as in ``fast_step``: E members, n snippets, L samples. ``sums`` are in the losses' precision.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from dgam.training.buffers import Buffers
from dgam.training.members import masked, over_snippets, product


class Latent(Protocol):
    """z of stage (b) and the gradients of its distribution."""

    def sample(self, posterior: Tensor, noise: Tensor, attention: Tensor, mean: Tensor, z: Tensor) -> None:
        """μ and log σ² (E, n, 2·latent), noise ε (E, L, n, latent), λ (E, n), rλ (E, n): z = μ + σε into
        ``z`` (E, L, n, wide), followed by λ, 1 and zeros. ``noise`` may be written over."""
        ...

    def bend(self, posterior: Tensor, by_z: Tensor, ratio: Tensor) -> Tensor:
        """``posterior`` becomes the gradient by it, from that by z (E, L·n, latent) and from KL, which counts
        ``ratio`` (E, 1). Twice the KL of all snippets, (E,)."""
        ...


class Passes(Protocol):
    """What :class:`Plain` does, or ``fused.Fused``."""

    def latent(self, buffers: Buffers) -> Latent: ...
    def activate(self, out: Tensor, bias: Tensor, relu: bool) -> Tensor: ...
    def fill(self, z: Tensor, noise: Tensor, attention: Tensor) -> None: ...
    def attend(self, units: Tensor, weight: Tensor, bias: Tensor) -> Tensor: ...
    def enter(self, first: Tensor, attention: Tensor, weight: Tensor) -> None: ...
    def units_gradient(self, units: Tensor, by_score: Tensor, of_output: Tensor, of_bias: Tensor) -> None: ...
    def half_gradient(self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> Tensor: ...
    def spend(self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> tuple[Tensor, Tensor]: ...
    def masked_dot(self, gradient: Tensor, units: Tensor, weight: Tensor) -> Tensor: ...
    def masked_sums(self, gradient: Tensor, units: Tensor, sums: Tensor) -> Tensor: ...
    def centre(self, units: Tensor, mean: Tensor, out: Tensor, sums: Tensor) -> None: ...
    def sums(self, x: Tensor, sums: Tensor) -> None: ...


class Plain:
    """Every pass as the few PyTorch calls that it is."""

    def latent(self, buffers: Buffers) -> Latent:
        """See :class:`Latent`."""
        return PlainLatent(self, buffers)

    def activate(self, out: Tensor, bias: Tensor, relu: bool) -> Tensor:
        """A layer's outputs (E, n', m) with its bias (E, m) and, where asked for, ReLU, in place."""
        out += bias.unsqueeze(1)
        return out.relu_() if relu else out

    def fill(self, z: Tensor, noise: Tensor, attention: Tensor) -> None:
        """z (E, L, n, wide) from samples or noise (E, L, n, latent), λ (E, n), 1 and zeros."""
        latent = noise.shape[-1]
        z[..., :latent] = noise
        z[..., latent] = attention.unsqueeze(1)
        z[..., latent + 1] = 1
        z[..., latent + 2 :] = 0

    def attend(self, units: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """λ (E, n) of the attention's hidden units (E, n, m), which ReLU is applied to in place; ``weight``
        (E, 1, m), ``bias`` (E, 1) in the losses' precision."""
        score = product(units.relu_(), weight.mT).squeeze(2)  # (E, n)
        return torch.sigmoid_(score.to(bias.dtype).add_(bias))

    def enter(self, first: Tensor, attention: Tensor, weight: Tensor) -> None:
        """λ (E, n) enters a layer (E, n, m) by ``weight`` (E, m), then ReLU, in place."""
        first.addcmul_(attention.to(first.dtype).unsqueeze(2), weight.unsqueeze(1)).relu_()

    def units_gradient(self, units: Tensor, by_score: Tensor, of_output: Tensor, of_bias: Tensor) -> None:
        """``units`` (E, n, m) become ``by_score`` (E, n) where they are above 0, else 0. Before that, Σ of
        by_score times them goes into ``of_output`` (E, m), after it their own sum into ``of_bias`` (E, m)."""
        by = by_score.to(units.dtype).unsqueeze(2)  # (E, n, 1)
        of_output.copy_(product(by.mT, units).squeeze(1))
        masked(by.expand(units.shape), units, out=units)
        over_snippets(units, of_bias)

    def half_gradient(self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> Tensor:
        """q = WᵀW h + g where h (E, L·n, m) is above 0, else 0; g (E, n, m), ``gram`` (E, m, m)."""
        q = _half_gradient(second, gap, gram, buffers).flatten(1, 2)
        return masked(q, second, out=q)

    def spend(self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> tuple[Tensor, Tensor]:
        """:meth:`half_gradient`, and h·(q + g) for each snippet (E, L, n) in the losses' precision."""
        q = _half_gradient(second, gap, gram, buffers)  # (E, L, n, m)
        spent = buffers.get("spent", tuple(q.shape), q.dtype)
        torch.add(q, gap.unsqueeze(1), out=spent).mul_(second.view(q.shape))
        distance = spent.sum(dim=3)
        flat = q.flatten(1, 2)
        return masked(flat, second, out=flat), distance.to(torch.promote_types(q.dtype, torch.float32))

    def masked_dot(self, gradient: Tensor, units: Tensor, weight: Tensor) -> Tensor:
        """The gradient (E, n', m) where units are above 0, times ``weight`` (E, m): (E, n'), in the losses'
        precision. ``gradient`` may be written over."""
        by = product(masked(gradient, units, out=gradient), weight.unsqueeze(2)).squeeze(2)
        return by.to(torch.promote_types(by.dtype, torch.float32))

    def masked_sums(self, gradient: Tensor, units: Tensor, sums: Tensor) -> Tensor:
        """The gradient (E, n', m) where units are above 0, else 0, in place; summed over n' into ``sums``
        (E, m)."""
        masked(gradient, units, out=gradient)
        over_snippets(gradient, sums)
        return gradient

    def centre(self, units: Tensor, mean: Tensor, out: Tensor, sums: Tensor) -> None:
        """``units`` (E, n', m) less ``mean`` (E, m) into ``out``, and summed over n' into ``sums``."""
        torch.sub(units, mean.unsqueeze(1), out=out)
        over_snippets(out, sums)

    def sums(self, x: Tensor, sums: Tensor) -> None:
        """x (E, n', m) summed over n' into ``sums`` (E, m)."""
        over_snippets(x, sums)


class PlainLatent:
    """See :class:`Latent`. What both methods need is kept in between."""

    def __init__(self, passes: Plain, buffers: Buffers) -> None:
        self._passes, self._buffers = passes, buffers

    def sample(self, posterior: Tensor, noise: Tensor, attention: Tensor, mean: Tensor, z: Tensor) -> None:
        kept, buffers, latent = noise.dtype, self._buffers, noise.shape[-1]
        narrow = (*posterior.shape[:2], latent)
        self._mean = buffers.get("mean", narrow, kept).copy_(posterior[..., :latent])
        self._deviation = buffers.get("deviation", narrow, kept).copy_(posterior[..., latent:])
        # −Σ log σ² − n·latent, to become twice KL
        self._kl = -self._deviation.sum(dim=1).sum(dim=1) - posterior.shape[1] * latent  # (E,)
        self._deviation.mul_(0.5).exp_()
        self._spread = noise.mul_(self._deviation.unsqueeze(1))  # (E, L, n, latent)
        sampled = buffers.get("sampled", tuple(noise.shape), kept)
        self._passes.fill(z, torch.add(self._spread, self._mean.unsqueeze(1), out=sampled), attention)
        self._gap = self._mean.sub_(mean.unsqueeze(2))  # μ − rλ

    def bend(self, posterior: Tensor, by_z: Tensor, ratio: Tensor) -> Tensor:
        latent, spread, each = self._gap.shape[2], self._spread, ratio.unsqueeze(2)  # (E, 1, 1)
        kl: Tensor = self._kl + _norm(self._gap) + _norm(self._deviation)
        exact = self._buffers.get("by_z.exact", tuple(spread.shape), spread.dtype)
        exact.copy_(by_z.view(spread.shape))
        posterior[..., :latent] = self._gap.mul_(each).add_(_over_samples(exact))
        bent = _over_samples(exact.mul_(spread))  # (E, n, latent)
        by_spread = self._deviation.square_().sub_(1).mul_(each).add_(bent).mul_(0.5)
        posterior[..., latent:] = by_spread
        return kl


def passes_for(like: Tensor) -> Passes:
    """The passes for tensors on the device and with the losses' precision of ``like``."""
    if like.is_cuda and like.dtype == torch.float32 and importlib.util.find_spec("triton") is not None:
        from dgam.training.fused import Fused

        return Fused()
    return Plain()


def _half_gradient(second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> Tensor:
    """q (E, L, n, m) from h (E, L·n, m) and g (E, n, m)."""
    members, rows, width = gap.shape
    q = buffers.get("q", (members, second.shape[1] // rows, rows, width), second.dtype)
    q.copy_(gap.unsqueeze(1))
    flat = q.view(second.shape)
    if members == 1:
        flat[0].addmm_(second[0], gram[0])
    else:
        flat.baddbmm_(second, gram)
    return q


def _over_samples(x: Tensor) -> Tensor:
    """x (E, L, n, latent) summed over L."""
    return x[:, 0] if x.shape[1] == 1 else x.sum(dim=1)


def _norm(x: Tensor) -> Tensor:
    """Σx² (E,) over all but the first axis."""
    if x.shape[0] == 1 and not x.is_cuda:
        return torch.dot(x.view(-1), x.view(-1)).view(1)  # several times faster
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm.square()
