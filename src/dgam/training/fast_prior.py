"""L_re of stage (a), equation 11, with its gradient by the attention, and what stage (b) shares with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.core.config import LossSettings
from dgam.training.fast_decoder import Decoder, decode
from dgam.training.means import Means
from dgam.training.members import Numbers, Weights, product


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


def reconstruct(
    attention: Tensor,
    noise: Tensor,
    snippets: Snippets,
    weights: Weights,
    decoder: Decoder,
    numbers: Numbers,
    scale: Scale,
    means: Means,
) -> tuple[Tensor, Tensor]:
    """L_re (E,) and its gradient by λ (E, n), both unweighted. λ (E, n), noise (E, L, n, latent)."""
    _, samples, rows, latent = noise.shape
    buffers, passes = means.buffers, means.passes
    dtype, kept = snippets.x.dtype, attention.dtype
    # z = rλ·1 + ε, so λ comes in through r as well as by itself.
    of_z = weights["cvae.decode_z.weight"]  # (E, hidden, latent + 1)
    through = of_z[..., latent] + numbers.r * of_z[..., :latent].sum(dim=2)  # (E, hidden)
    entry = buffers.get("prior.entry", tuple(decoder.entry.shape), dtype).copy_(decoder.entry)
    entry[..., latent] = through
    fixed = decoder.bias.square().sum(dim=1, keepdim=True)  # ‖b‖² (E, 1)
    z = buffers.get("z", (*noise.shape[:3], entry.shape[2]), dtype)
    passes.fill(z, noise, attention)
    decoded = decode(z.flatten(1, 2), entry, decoder, means)
    by_second, spent = passes.spend(decoded.second, snippets.gap, decoder.gram, buffers)
    distance = spent - 2 * snippets.crossed.unsqueeze(1)  # (E, L, n), ‖x̂ − x‖²
    if samples == 1:  # all that the snippets share can be added to the sum, and no snippet's own is needed
        total = distance.sum(dim=2) + rows * fixed + snippets.squares  # (E, 1)
        loss = total * scale.sharpness
    else:
        distance += (fixed + snippets.x.to(kept).square().sum(dim=2)).unsqueeze(1)
        log_p = -distance * scale.sharpness.unsqueeze(2)
        loss = -(torch.logsumexp(log_p, dim=1) - math.log(samples)).sum(dim=1, keepdim=True)
        # A sample counts as much as it explains.
        by_second.view(*distance.shape, -1).mul_(torch.softmax(log_p, dim=1).unsqueeze(3).to(dtype))
    by_first = product(by_second, decoder.hidden, buffers.get("by_first", tuple(by_second.shape), dtype))
    by_attention = passes.masked_dot(by_first, decoded.first, entry[..., latent])  # (E, L·n)
    by_attention = by_attention.view(distance.shape).sum(dim=1)
    return (loss * scale.snippet).squeeze(1), by_attention * (2 * scale.snippet * scale.sharpness)
