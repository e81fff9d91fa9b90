"""L_CVAE of stage (b), equation 10, with the gradients of all the CVAE's parameters written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.training.fast_decoder import Decoder, decode
from dgam.training.fast_prior import Scale, Snippets
from dgam.training.layers import layer
from dgam.training.means import Means
from dgam.training.members import (
    Numbers,
    Weights,
    masked,
    outer,
    outer_with_features,
    product,
)


@dataclass(frozen=True)
class Generated:
    """L_CVAE and the mean KL of a snippet, each (E,), and what the CVAE's gradients have yet to be multiplied
    by, (E, 1)."""

    loss: Tensor
    kl: Tensor
    factor: Tensor


@dataclass(frozen=True)
class _Centred:
    """h = m + g of all samples: m (E, hidden), Σg (E, hidden), Σgᵀg (E, hidden, hidden), in the losses'
    precision.

    Near an optimum the gradient of W is a small difference of large sums, which bfloat16 would lose; about a
    mean the sums are no larger than what they differ by.
    """

    mean: Tensor
    sums: Tensor
    squares: Tensor


class Generation:
    """L_CVAE of one batch, of ``samples`` L. ``sums`` is Σx (E, d).

    Gradients go into ``gradients`` (E, …), by 2 · sharpness · snippet / L of the loss, with KL in proportion;
    the factor multiplies all of them at once, later. What only they need is done beside the rest.
    """

    def __init__(
        self,
        snippets: Snippets,
        sums: Tensor,
        weights: Weights,
        rounded: Weights,
        gradients: Weights,
        decoder: Decoder,
        numbers: Numbers,
        scale: Scale,
        samples: int,
        means: Means,
    ) -> None:
        self._snippets, self._sums, self._decoder = snippets, sums, decoder
        self._numbers, self._scale, self._samples, self._means = numbers, scale, samples, means
        self._dtype, self._kept = snippets.x.dtype, sums.dtype
        self._weights = _of_cvae(weights)
        self._rounded, self._gradients = _of_cvae(rounded), _of_cvae(gradients)
        self._width = decoder.entry.shape[1]
        members, rows, _ = snippets.x.shape
        # What multiplies x in the gradients: that of the encoder's first layer, and h about its mean.
        self._beyond = means.buffers.get("beyond", (members, rows, 2 * self._width), self._dtype)
        self._unit = 2 * scale.sharpness * scale.snippet / samples  # (E, 1)
        self._ratio = numbers.beta * scale.snippet / scale.terms / self._unit  # (E, 1)

    def run(self, attention: Tensor, noise: Tensor, weight: Tensor) -> Generated:
        """L_CVAE, unweighted, and its gradients with the factor for their ``weight`` (E, 1). λ (E, n);
        ``noise`` (E, L, n, latent) and ``snippets.entry`` are written over."""
        kept, dtype, beside = self._kept, self._dtype, self._means.beside
        buffers, passes = self._means.buffers, self._means.passes
        rounded, gradients, beyond = self._rounded, self._gradients, self._beyond
        members, samples, rows, latent = noise.shape

        # Encoder. What is named posterior holds μ and log σ², later the gradient by them.
        first = self._snippets.entry
        passes.enter(first, attention, rounded["encode_x.weight"][..., -1])
        second = layer(first, *self._layer("encode_hidden"), self._means, "encode.second", relu=True)
        posterior = layer(second, *self._layer("encode_z"), self._means, "posterior")
        drawn = passes.latent(buffers)
        z = buffers.get("z", (members, samples, rows, self._decoder.entry.shape[2]), dtype)
        drawn.sample(posterior, noise, attention, self._numbers.r * attention, z)
        z = z.flatten(1, 2)  # (E, L·n, wide)

        # Decoder.
        decoded = decode(z, self._decoder.entry, self._decoder, self._means)
        centred = self._about_centre(decoded.second, beyond[..., self._width :])
        by_second = passes.half_gradient(decoded.second, self._snippets.gap, self._decoder.gram, buffers)
        by_first = buffers.get("by_first", tuple(by_second.shape), dtype)
        product(by_second, self._decoder.hidden, by_first)
        masked(by_first, decoded.first, out=by_first)
        with beside():
            outer(by_second, decoded.first, gradients["decode_hidden.weight"])
            passes.sums(by_second, gradients["decode_hidden.bias"])
            of_entry = buffers.get("of_entry", tuple(self._decoder.entry.shape), kept)
            outer(by_first, z, of_entry)  # (E, hidden, wide)
            gradients["decode_z.weight"].copy_(of_entry[..., : latent + 1])
            gradients["decode_z.bias"].copy_(of_entry[..., latent + 1])
        by_z = buffers.get("by_z", (members, samples * rows, latent), dtype)
        product(by_first, self._decoder.entry[..., :latent], by_z)

        # KL and the encoder's gradients.
        twice_kl = drawn.bend(posterior, by_z, self._ratio)  # (E,)
        by_hidden = buffers.get("by_hidden", (members, rows, self._width), dtype)
        product(posterior, rounded["encode_z.weight"], by_hidden)
        passes.masked_sums(by_hidden, second, gradients["encode_hidden.bias"])
        by_entry = product(by_hidden, rounded["encode_hidden.weight"], beyond[..., : self._width])
        passes.masked_sums(by_entry, first, gradients["encode_x.bias"])
        with beside():
            outer(posterior, second, gradients["encode_z.weight"])
            passes.sums(posterior, gradients["encode_z.bias"])
            outer(by_hidden, first, gradients["encode_hidden.weight"])
            of_lambda = gradients["encode_x.weight"][..., -1:]  # (E, hidden, 1)
            of_lambda.copy_(product(by_entry.mT, attention.to(dtype).unsqueeze(2)))
        of_x = outer_with_features(beyond, self._snippets.x, buffers)  # (E, 2·hidden, d)
        gradients["encode_x.weight"][..., :-1] = of_x[:, : self._width]
        beside.join()
        error = self._last_layer(centred, of_x[:, self._width :].mT)

        kl = 0.5 * twice_kl.unsqueeze(1) / self._scale.terms  # (E, 1)
        divided = error * self._scale.sharpness / self._samples
        loss = (divided + self._numbers.beta * kl) * self._scale.snippet
        return Generated(loss.squeeze(1), (kl / rows).squeeze(1), self._unit * weight)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self._rounded[f"{name}.weight"], self._rounded[f"{name}.bias"]

    def _about_centre(self, second: Tensor, out: Tensor) -> _Centred:
        """Of h (E, L·n, hidden); g, summed over samples, goes into ``out`` (E, n, hidden)."""
        members, count, width = second.shape
        buffers, kept = self._means.buffers, self._kept
        exact, sums = (buffers.get(f"centre.{name}", (members, width), kept) for name in ("mean", "sums"))
        squares = buffers.get("centre.squares", (members, width, width), kept)
        self._means.passes.sums(second, exact)
        mean = (exact / count).to(second.dtype)
        centred = out if self._samples == 1 else buffers.get("centred", tuple(second.shape), second.dtype)
        self._means.passes.centre(second, mean, centred, sums)
        if self._samples > 1:
            torch.sum(centred.view(members, self._samples, -1, width), dim=1, out=out)
        with self._means.beside():
            outer(centred, centred, squares)
        return _Centred(exact.copy_(mean), sums, squares)

    def _last_layer(self, h: _Centred, with_x: Tensor) -> Tensor:
        """Half the gradients by W and b of Σ‖x̂ − x‖² over all samples and snippets; that sum (E, 1).

        ``with_x`` is xᵀg (E, d, hidden). (x̂ − x)ᵀh = W hᵀh + b Σhᵀ − xᵀh.
        """
        count = self._samples * self._snippets.x.shape[1]
        last, bias, x = self._weights["decode_x.weight"], self._decoder.bias, self._samples * self._sums
        total = h.sums + count * h.mean  # Σh (E, hidden)
        # hᵀh = gᵀg + m Σhᵀ + Σg mᵀ, and m, Σg and Σh as columns make its last terms one product.
        left, right = torch.stack([h.mean, h.sums], dim=2), torch.stack([total, h.mean], dim=1)
        with_itself = torch.baddbmm(h.squares, left, right)
        # Likewise b Σhᵀ − xᵀh, where xᵀh = xᵀg + Σx mᵀ.
        left, right = torch.stack([bias, x], dim=2), torch.stack([total, -h.mean], dim=1)
        of_last = self._gradients["decode_x.weight"].copy_(with_x)
        of_last.copy_(torch.baddbmm(of_last, left, right, beta=-1))  # b Σhᵀ − xᵀh
        of_bias = product(last, total.unsqueeze(2)).squeeze(2) + count * bias - x  # (E, d)
        self._gradients["decode_x.bias"].copy_(of_bias)
        made = product(last, with_itself)  # W hᵀh (E, d, hidden)
        # Σ‖x̂ − x‖² − Σ‖x‖² from what is there: W·(W hᵀh + 2 (b Σhᵀ − xᵀh)) + b·(b count − 2 Σx).
        error = (last * (made + 2 * of_last)).sum(dim=(1, 2))
        error = error + (bias * (count * bias - 2 * x)).sum(dim=1)
        of_last += made
        return error.unsqueeze(1) + self._samples * self._snippets.squares


def _of_cvae(values: Weights) -> Weights:
    """The CVAE's, by their names within it."""
    return {n.removeprefix("cvae."): v for n, v in values.items() if n.startswith("cvae.")}
