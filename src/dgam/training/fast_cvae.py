"""L_CVAE of stage (b), equation 10, with the gradients of all the CVAE's parameters written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.training.buffers import Buffers
from dgam.training.fast_decoder import Decoder, decode, half_gradient, to_first
from dgam.training.fast_prior import Scale, Snippets, latent_input
from dgam.training.members import (
    Numbers,
    Weights,
    layer,
    masked,
    outer,
    outer_with_features,
    over_snippets,
    product,
)


@dataclass(frozen=True)
class Generated:
    """L_CVAE and the mean KL of a snippet, each (E,), and the gradient of each of the CVAE's parameters."""

    loss: Tensor
    kl: Tensor
    gradients: dict[str, Tensor]


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

    Inside, gradients are those by 2 · sharpness · snippet / L of the loss, with KL in proportion; the factor
    multiplies them once they are as small as the weights.
    """

    def __init__(
        self,
        snippets: Snippets,
        sums: Tensor,
        weights: Weights,
        decoder: Decoder,
        numbers: Numbers,
        scale: Scale,
        samples: int,
        buffers: Buffers,
    ) -> None:
        self._snippets, self._sums, self._decoder = snippets, sums, decoder
        self._numbers, self._scale, self._samples, self._buffers = numbers, scale, samples, buffers
        self._dtype, self._kept = snippets.x.dtype, sums.dtype
        encoder = {n: w for n, w in weights.items() if n.startswith("cvae.encode")}
        self._named = {n.removeprefix("cvae."): w.to(self._dtype) for n, w in encoder.items()}
        self._entry = decoder.entry.to(self._dtype)
        self._width = self._entry.shape[1]
        self._latent = self._entry.shape[2] - 2
        members, rows, _ = snippets.x.shape
        # What multiplies x in the gradients: that of the encoder's first layer, and h about its mean.
        self._beyond = buffers.get("beyond", (members, rows, 2 * self._width), self._dtype)
        self._unit = 2 * scale.sharpness * scale.snippet / samples  # (E, 1)
        self._ratio = (numbers.beta * scale.snippet / scale.terms / self._unit).unsqueeze(2)  # (E, 1, 1)

    def run(self, attention: Tensor, noise: Tensor, weight: Tensor) -> Generated:
        """L_CVAE, unweighted, and its gradients times ``weight`` (E, 1). λ (E, n); ``noise``
        (E, L, n, latent) and ``snippets.entry`` are written over."""
        kept, dtype, latent, buffers = self._kept, self._dtype, self._latent, self._buffers
        named, beyond = self._named, self._beyond
        gradients: dict[str, Tensor] = {}
        members, rows = attention.shape
        beside = torch.ones(members, rows, 2, dtype=dtype, device=attention.device)  # λ and 1
        beside[..., 0] = attention

        # Encoder. What is named posterior holds μ and log σ², later the gradient by them.
        first = self._snippets.entry
        first.baddbmm_(beside[..., :1], named["encode_x.weight"][:, None, :, -1]).relu_()
        second = layer(first, *self._named_layer("encode_hidden"), buffers, "encode.second", relu=True)
        posterior = layer(second, *self._named_layer("encode_z"), buffers, "posterior")
        narrow = (members, rows, latent)
        mean = buffers.get("mean", narrow, kept).copy_(posterior[..., :latent])
        deviation = buffers.get("deviation", narrow, kept).copy_(posterior[..., latent:])
        kl = -over_snippets(deviation, kept).sum(dim=1) - rows * latent  # (E,), to become twice KL
        deviation.mul_(0.5).exp_()
        spread = noise.mul_(deviation.unsqueeze(1))  # (E, L, n, latent)
        sampled = buffers.get("sampled", tuple(noise.shape), kept)
        z = latent_input(torch.add(spread, mean.unsqueeze(1), out=sampled), attention, buffers, dtype)

        # Decoder.
        decoded = decode(z, self._entry, self._decoder, buffers)
        q = half_gradient(decoded.second, self._snippets.gap, self._decoder, buffers).flatten(1, 2)
        centred = self._about_centre(decoded.second, beyond[..., self._width :])
        by_second, by_first = to_first(q, decoded, self._decoder, buffers)
        gradients["decode_hidden.weight"] = outer(by_second, decoded.first, kept)
        gradients["decode_hidden.bias"] = over_snippets(by_second, kept)
        of_entry = outer(by_first, z, kept)  # (E, hidden, latent + 2)
        gradients["decode_z.weight"], gradients["decode_z.bias"] = of_entry[..., :-1], of_entry[..., -1]
        rounded = buffers.get("by_z.rounded", (members, self._samples * rows, latent), dtype)
        by_z = buffers.get("by_z", tuple(noise.shape), kept)
        by_z.copy_(product(by_first, self._entry[..., :latent], rounded).view(noise.shape))

        # KL and the encoder's gradients.
        gap = mean.sub_((self._numbers.r * attention).unsqueeze(2))  # μ − rλ
        kl += _norm(gap) + _norm(deviation)
        posterior[..., :latent] = gap.mul_(self._ratio).add_(_over_samples(by_z))
        bent = _over_samples(by_z.mul_(spread))  # (E, n, latent)
        posterior[..., latent:] = deviation.square_().sub_(1).mul_(self._ratio).add_(bent).mul_(0.5)
        gradients["encode_z.weight"] = outer(posterior, second, kept)
        gradients["encode_z.bias"] = over_snippets(posterior, kept)
        by_hidden = buffers.get("by_hidden", (members, rows, self._width), dtype)
        product(posterior, named["encode_z.weight"], by_hidden)
        masked(by_hidden, second, out=by_hidden)
        gradients["encode_hidden.weight"] = outer(by_hidden, first, kept)
        gradients["encode_hidden.bias"] = over_snippets(by_hidden, kept)
        by_entry = product(by_hidden, named["encode_hidden.weight"], beyond[..., : self._width])
        masked(by_entry, first, out=by_entry)
        of_beside = outer(by_entry, beside, kept)  # (E, hidden, 2)
        of_x = outer_with_features(beyond, self._snippets.x, kept, buffers)  # (E, 2·hidden, d)
        gradients["encode_x.weight"] = torch.cat([of_x[:, : self._width], of_beside[..., :1]], dim=2)
        gradients["encode_x.bias"] = of_beside[..., 1]
        of_last, error = self._last_layer(centred, of_x[:, self._width :].mT)
        gradients |= of_last

        kl = 0.5 * kl.unsqueeze(1) / self._scale.terms  # (E, 1)
        divided = error * self._scale.sharpness / self._samples
        loss = (divided + self._numbers.beta * kl) * self._scale.snippet
        factor = self._unit * weight  # (E, 1)
        return Generated(
            loss=loss.squeeze(1),
            kl=(kl / rows).squeeze(1),
            gradients={
                f"cvae.{name}": value.mul_(factor.view(-1, *[1] * (value.ndim - 1)))
                for name, value in gradients.items()
            },
        )

    def _named_layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self._named[f"{name}.weight"], self._named[f"{name}.bias"]

    def _about_centre(self, second: Tensor, out: Tensor) -> _Centred:
        """Of h (E, L·n, hidden); g, summed over samples, goes into ``out`` (E, n, hidden)."""
        members, count, width = second.shape
        mean = (over_snippets(second, self._kept) / count).to(second.dtype)
        centred = (
            out if self._samples == 1 else self._buffers.get("centred", tuple(second.shape), second.dtype)
        )
        torch.sub(second, mean.unsqueeze(1), out=centred)
        if self._samples > 1:
            torch.sum(centred.view(members, self._samples, -1, width), dim=1, out=out)
        squares = outer(centred, centred, self._kept)
        return _Centred(mean.to(self._kept), over_snippets(centred, self._kept), squares)

    def _last_layer(self, h: _Centred, with_x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Half the gradients by W and b of Σ‖x̂ − x‖² over all samples and snippets, and that sum (E, 1).

        ``with_x`` is xᵀg (E, d, hidden). (x̂ − x)ᵀh = W hᵀh + b Σhᵀ − xᵀh.
        """
        count = self._samples * self._snippets.x.shape[1]
        last, bias, x = self._decoder.last, self._decoder.bias, self._samples * self._sums
        off = h.mean.unsqueeze(2) * h.sums.unsqueeze(1)  # m Σgᵀ
        square = h.mean.unsqueeze(2) * h.mean.unsqueeze(1)
        with_itself = h.squares + off + off.mT + count * square  # hᵀh
        total = h.sums + count * h.mean  # Σh (E, hidden)
        with_x = with_x + x.unsqueeze(2) * h.mean.unsqueeze(1)  # xᵀh (E, d, hidden)
        of_last = product(last, with_itself) + bias.unsqueeze(2) * total.unsqueeze(1) - with_x
        of_bias = product(last, total.unsqueeze(2)).squeeze(2) + count * bias - x  # (E, d)
        error = (last * (of_last - with_x)).sum(dim=(1, 2)) + (bias * (of_bias - x)).sum(dim=1)
        squares = self._samples * self._snippets.squares
        return {"decode_x.weight": of_last, "decode_x.bias": of_bias}, error.unsqueeze(1) + squares


def _over_samples(x: Tensor) -> Tensor:
    """x (E, L, n, latent) summed over L."""
    return x[:, 0] if x.shape[1] == 1 else x.sum(dim=1)


def _norm(x: Tensor) -> Tensor:
    """Σx² (E,) over all but the first axis."""
    if x.shape[0] == 1 and not x.is_cuda:
        return torch.dot(x.view(-1), x.view(-1)).view(1)  # several times faster
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm.square()
