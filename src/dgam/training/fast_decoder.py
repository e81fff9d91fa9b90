"""The CVAE's decoder and its squared error without ever forming a reconstruction.

With x̂ = W h + b, the error of a snippet and its gradient need x only as Wᵀx, as wide as h:

    ‖x̂ − x‖² = h·(q + g) + ‖b‖² − 2 b·x + ‖x‖²,   g = Wᵀ(b − x),   q = Wᵀ(x̂ − x) = WᵀW h + g,

where 2q is the gradient with respect to h. g comes out of the one product that gives the first layers of
attention, classifier and encoder too, and serves both stages, since stage (a) leaves W and b as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.training.buffers import Buffers
from dgam.training.members import Weights, layer, masked, product


@dataclass(frozen=True)
class Decoder:
    """The decoder's weights as both stages use them.

    ``entry`` (E, hidden, latent + 2) takes z, λ and 1; ``gram`` is WᵀW (E, hidden, hidden) and ``pull`` Wᵀb
    (E, hidden) of the last layer, ``last`` W (E, d, hidden) as rounded to the networks' precision and
    ``bias`` b (E, d), these three in the losses' precision.
    """

    entry: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    gram: Tensor
    pull: Tensor
    last: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weights: Weights, dtype: torch.dtype) -> Decoder:
        """Packed anew in every step, which costs little: all of it is as small as the weights."""
        entry = torch.cat(
            [weights["cvae.decode_z.weight"], weights["cvae.decode_z.bias"].unsqueeze(2)], dim=2
        )
        last, bias = weights["cvae.decode_x.weight"], weights["cvae.decode_x.bias"]
        last = last.to(dtype).to(last.dtype)  # g has it rounded, and the expansion holds for one W only
        return cls(
            entry=entry,
            hidden=weights["cvae.decode_hidden.weight"].to(dtype),
            hidden_bias=weights["cvae.decode_hidden.bias"].to(dtype),
            gram=product(last.mT, last).to(dtype),
            pull=product(last.mT, bias.unsqueeze(2)).squeeze(2),
            last=last,
            bias=bias,
        )


@dataclass(frozen=True)
class Decoded:
    """Hidden units of L samples: ``first`` (E, L·n, hidden), and ``second`` likewise."""

    first: Tensor
    second: Tensor


def decode(z: Tensor, entry: Tensor, decoder: Decoder, buffers: Buffers) -> Decoded:
    """z, λ and 1 (E, L·n, latent + 2) through both hidden layers; ``entry`` as Decoder has it."""
    nothing = decoder.hidden_bias.new_zeros(entry.shape[:2])  # the bias is in entry
    first = layer(z, entry, nothing, buffers, "decode.first", relu=True)
    return Decoded(
        first, layer(first, decoder.hidden, decoder.hidden_bias, buffers, "decode.second", relu=True)
    )


def half_gradient(second: Tensor, gap: Tensor, decoder: Decoder, buffers: Buffers) -> Tensor:
    """q (E, L, n, hidden) from h (E, L·n, hidden) and g (E, n, hidden)."""
    members, rows, width = gap.shape
    q = buffers.get("q", (members, second.shape[1] // rows, rows, width), second.dtype)
    q.copy_(gap.unsqueeze(1))
    flat = q.view(second.shape)
    if members == 1:
        flat[0].addmm_(second[0], decoder.gram[0])
    else:
        flat.baddbmm_(second, decoder.gram)
    return q


def to_first(q: Tensor, decoded: Decoded, decoder: Decoder, buffers: Buffers) -> tuple[Tensor, Tensor]:
    """Gradient by h (E, L·n, hidden) to those before the second ReLU, in its place, and before the first."""
    by_second = masked(q, decoded.second, out=q)
    by_first = product(by_second, decoder.hidden, buffers.get("by_first", tuple(q.shape), q.dtype))
    return by_second, masked(by_first, decoded.first, out=by_first)
