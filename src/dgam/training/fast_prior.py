"""L_re of stage (a), equation 11, with its gradient by the attention, and what stage (b) shares with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.core.config import LossSettings
from dgam.training.buffers import Buffers
from dgam.training.fast_decoder import Decoder, decode, half_gradient, to_first
from dgam.training.members import Numbers, product


@dataclass(frozen=True)
class Snippets:
    """A batch as both stages share it: n = B·T snippets in each of E members.

    ``x`` (E, n, d) scaled, in the networks' precision; ``squares`` Σ‖x‖² (E, 1) over the batch and
    ``crossed`` b·x (E, n), in the losses' precision. ``gap`` g = Wᵀ(b − x) (E, n, hidden), and ``entry`` the
    encoder's first layer but for λ (E, n, hidden), are of the CVAE as it was when stage (a) began.
    """

    x: Tensor
    squares: Tensor
    crossed: Tensor
    gap: Tensor
    entry: Tensor


@dataclass(frozen=True)
class Scale:
    """What a snippet weighs in a batch's loss; 1 / 2σ² (E, 1), by which its squared error becomes −log p; and
    by what its KL is divided."""

    snippet: float
    sharpness: Tensor
    terms: int

    @classmethod
    def of(cls, numbers: Numbers, form: LossSettings, shape: tuple[int, int, int], latent: int) -> Scale:
        """For a batch of ``shape`` (B, T, d)."""
        videos, snippets, dimension = shape
        each = form.reduction == "element"
        return cls(
            snippet=1 / videos if form.reduction == "sum" else 1 / (videos * snippets),
            sharpness=0.5 / numbers.sigma2 / (dimension if each else 1),
            terms=latent if each else 1,
        )


def latent_input(samples: Tensor, attention: Tensor, buffers: Buffers, dtype: torch.dtype) -> Tensor:
    """z or noise (E, L, n, latent), λ (E, n) and 1 side by side, (E, L·n, latent + 2)."""
    members, count, rows, latent = samples.shape
    z = buffers.get("z", (members, count, rows, latent + 2), dtype)
    z[..., :latent] = samples
    z[..., latent] = attention.unsqueeze(1)
    z[..., latent + 1] = 1
    return z.flatten(1, 2)


def reconstruct(
    attention: Tensor,
    noise: Tensor,
    snippets: Snippets,
    decoder: Decoder,
    numbers: Numbers,
    scale: Scale,
    buffers: Buffers,
) -> tuple[Tensor, Tensor]:
    """L_re (E,) and its gradient by λ (E, n), both unweighted. λ (E, n), noise (E, L, n, latent)."""
    _, samples, rows, latent = noise.shape
    dtype, kept = snippets.x.dtype, attention.dtype
    # z = rλ·1 + ε, so λ comes in through r as well as by itself.
    through = decoder.entry[..., latent] + numbers.r * decoder.entry[..., :latent].sum(dim=2)  # (E, hidden)
    entry = decoder.entry.clone()
    entry[..., latent] = through
    entry, through = entry.to(dtype), through.to(dtype).unsqueeze(2)  # (E, hidden, 1)
    fixed = decoder.bias.square().sum(dim=1, keepdim=True)  # ‖b‖² (E, 1)
    z = latent_input(noise, attention, buffers, dtype)  # (E, L·n, latent + 2)
    decoded = decode(z, entry, decoder, buffers)
    q = half_gradient(decoded.second, snippets.gap, decoder, buffers)  # (E, L, n, hidden)
    spent = buffers.get("spent", tuple(q.shape), q.dtype)
    torch.add(q, snippets.gap.unsqueeze(1), out=spent).mul_(decoded.second.view(q.shape))
    distance = spent.sum(dim=3).to(kept) - 2 * snippets.crossed.unsqueeze(1)  # (E, L, n), ‖x̂ − x‖²
    if samples == 1:  # all that the snippets share can be added to the sum, and no snippet's own is needed
        total = distance.sum(dim=2) + rows * fixed + snippets.squares  # (E, 1)
        loss = total * scale.sharpness
    else:
        distance += (fixed + snippets.x.to(kept).square().sum(dim=2)).unsqueeze(1)
        log_p = -distance * scale.sharpness.unsqueeze(2)
        loss = -(torch.logsumexp(log_p, dim=1) - math.log(samples)).sum(dim=1, keepdim=True)
        q *= torch.softmax(log_p, dim=1).unsqueeze(3).to(dtype)  # a sample counts as much as it explains
    _, by_first = to_first(q.flatten(1, 2), decoded, decoder, buffers)
    by_attention = product(by_first, through).view(distance.shape).to(kept).sum(dim=1)
    return (loss * scale.snippet).squeeze(1), by_attention * (2 * scale.snippet * scale.sharpness)
