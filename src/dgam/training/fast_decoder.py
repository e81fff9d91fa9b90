"""The CVAE's decoder and its squared error without ever forming a reconstruction.

With x̂ = W h + b, the error of a snippet and its gradient need x only as Wᵀx, as wide as h:

    ‖x̂ − x‖² = h·(q + g) + ‖b‖² − 2 b·x + ‖x‖²,   g = Wᵀ(b − x),   q = Wᵀ(x̂ − x) = WᵀW h + g,

where 2q is the gradient with respect to h. g comes out of the one product that gives the first layers of
attention, classifier and encoder too, and serves both stages, since stage (a) leaves W and b as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dgam.training.buffers import Buffers
from dgam.training.layers import layer
from dgam.training.means import Means
from dgam.training.members import Weights, product

_ALIGNED = 8  # matrix units want rows that begin at multiples of so many numbers


@dataclass(frozen=True)
class Decoder:
    """The decoder's weights as both stages use them, in the networks' precision unless said otherwise.

    ``entry`` (E, hidden, wide) takes z, λ, 1 and zeros; ``gram`` is WᵀW (E, hidden, hidden) of the last
    layer, and ``bias`` b (E, d) in the losses' precision.
    """

    entry: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    gram: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weights: Weights, rounded: Weights, buffers: Buffers) -> Decoder:
        """Packed anew in every step, which costs little: all of it is as small as the weights."""
        z, last = rounded["cvae.decode_z.weight"], rounded["cvae.decode_x.weight"]
        members, hidden, inputs = z.shape  # inputs are the latent's and λ
        entry = buffers.get("decode.entry", (members, hidden, width(inputs - 1)), z.dtype)
        entry[..., :inputs] = z
        entry[..., inputs] = rounded["cvae.decode_z.bias"]
        entry[..., inputs + 1 :] = 0
        return cls(
            entry=entry,
            hidden=rounded["cvae.decode_hidden.weight"],
            hidden_bias=rounded["cvae.decode_hidden.bias"],
            gram=product(last.mT, last),
            bias=weights["cvae.decode_x.bias"],
        )


def width(latent: int) -> int:
    """Numbers in a row of z, λ, 1 and zeros."""
    return -(-(latent + 2) // _ALIGNED) * _ALIGNED


@dataclass(frozen=True)
class Decoded:
    """Hidden units of L samples: ``first`` (E, L·n, hidden), and ``second`` likewise."""

    first: Tensor
    second: Tensor


def decode(z: Tensor, entry: Tensor, decoder: Decoder, means: Means) -> Decoded:
    """z, λ, 1 and zeros (E, L·n, wide) through both hidden layers; ``entry`` as Decoder has it, so that it
    holds the first one's bias."""
    first = layer(z, entry, None, means, "decode.first", relu=True)
    second = layer(first, decoder.hidden, decoder.hidden_bias, means, "decode.second", relu=True)
    return Decoded(first, second)
