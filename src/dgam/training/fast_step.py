"""The training step with only the arithmetic it needs, for one model or several of equal shape at once.

What it computes is :func:`dgam.training.engine.attention_losses` and ``cvae_losses``, whose few lines say it
plainly; here the gradients are written out, so that

- x is read by four products and nothing else of its size is read or made: one gives the first layers of
  attention, classifier, encoder and (transposed) the decoder's last, one the gradients of attention and
  classifier, one the attention again after its update, one the gradients of encoder and decoder;
- no gradient with respect to x or through a stage that is held fixed is computed;
- memory is kept from step to step.

E is the number of members, the leading axis everywhere; n = B·T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dgam.core.config import LossSettings
from dgam.model.losses import gaussian_matrix
from dgam.training.buffers import Buffers
from dgam.training.fast_attention import attention_score, discriminate
from dgam.training.fast_cvae import Generation
from dgam.training.fast_decoder import Decoder
from dgam.training.fast_prior import Scale, Snippets, reconstruct
from dgam.training.members import (
    Numbers,
    Weights,
    layer,
    masked,
    outer_with_features,
    over_snippets,
    product,
)
from dgam.training.prepared import Prepared

_ALIGNED = 16  # matrix units work in tiles; a width that fills them takes less time than a smaller one


@dataclass(frozen=True)
class Stage:
    """What a stage gives: its terms, each (E,), and the gradient of its total by every parameter it moves."""

    terms: dict[str, Tensor]
    gradients: dict[str, Tensor]


class FastStep:
    """Both stages' losses and gradients.

    ``settings`` and ``r`` are each member's own; the settings must agree in :data:`members.FORM` and in
    whether gamma1 is 0. Products are in the dtype of the features, losses and gradients in that of the
    weights. ``buffers`` may be shared by steps that take turns.
    """

    def __init__(self, settings: Sequence[LossSettings], r: Sequence[float], buffers: Buffers) -> None:
        self.form = settings[0]
        self._settings, self._r = settings, r
        self._buffers = buffers
        self._numbers: Numbers | None = None
        self._smoothing: dict[int, Tensor] = {}
        self._shared: tuple[Snippets, Tensor, Decoder] | None = None

    def attention(
        self, weights: Weights, prepared: Prepared, labels: Tensor, share: Tensor, noise: Tensor | None
    ) -> Stage:
        """Stage (a): equation 16.

        ``prepared`` x (E, B, T, d), ``labels`` (E, B, C), ``share`` (E, 1) of the warm-up, ``noise``
        (E, L, B, T, latent), None without the generative part.
        """
        members, videos, length, d = prepared.x.shape
        rows = videos * length
        like = weights["attention.hidden.weight"]
        numbers = self._of(like)
        hidden, classes = like.shape[1], weights["classifier.output.weight"].shape[1]
        last = hidden + classes
        front = -(-(last + 1) // _ALIGNED) * _ALIGNED
        flat = prepared.x.view(members, rows, d)
        decoder = None if noise is None else Decoder.of(weights, flat.dtype)
        first = self._first_layers(weights, front, flat, decoder)  # (E, n, front + 2·cvae hidden)
        units = first[..., :hidden].relu_()
        attention = attention_score(units, weights, like.dtype)  # (E, n)
        found = discriminate(
            attention.view(members, videos, length),
            first[..., hidden:last].to(like.dtype).view(members, videos, length, classes),
            weights.get("classifier.output.bias"),
            labels,
            self._smooth(length, like),
            numbers,
            self.form,
        )
        terms, by_attention = dict(found.terms), found.by_attention.view(members, rows)
        total = numbers.foreground.squeeze(1) * terms["fg"] + numbers.alpha.squeeze(1) * terms["bg"]
        total += numbers.gamma2.squeeze(1) * terms["guide"]
        snippets = None
        if noise is not None and decoder is not None:
            latent, wide = noise.shape[-1], decoder.hidden.shape[1]
            snippets = Snippets(
                x=flat,
                squares=prepared.squares,
                crossed=first[..., last].to(like.dtype),
                gap=first[..., front : front + wide],
                entry=first[..., front + wide :],
            )
            scale = Scale.of(numbers, self.form, (videos, length, d), latent)
            samples = noise.view(members, -1, rows, latent)
            terms["re"], by_re = reconstruct(
                attention, samples, snippets, decoder, numbers, scale, self._buffers
            )
            weight = numbers.gamma1 * share  # (E, 1)
            total += weight.squeeze(1) * terms["re"]
            by_attention = by_attention + weight * by_re
        terms |= {"total": total, "attention": attention.mean(dim=1)}
        by_score = by_attention * attention * (1 - attention)  # (E, n), before the sigmoid
        by_tcam = found.by_tcam.view(members, rows, classes)
        gradients, sums = self._first_gradients(weights, flat, first[..., :front], by_score, by_tcam)
        if snippets is not None and decoder is not None:
            self._shared = snippets, sums, decoder
        if "classifier.output.bias" in weights:
            gradients["classifier.output.bias"] = found.by_bias
        return Stage(terms, gradients)

    def cvae(self, weights: Weights, share: Tensor, noise: Tensor) -> Stage:
        """Stage (b), equation 10, on the batch that :meth:`attention` had last; attention is computed anew
        from ``weights``, whose CVAE must still be as it was then."""
        assert self._shared is not None, "stage (b) follows stage (a)"
        (snippets, sums, decoder), self._shared = self._shared, None
        like = weights["attention.hidden.weight"]
        numbers = self._of(like)
        members, _, videos, length, latent = noise.shape
        dtype, rows = snippets.x.dtype, videos * length
        weight, bias = like.to(dtype), weights["attention.hidden.bias"].to(dtype)
        scale = Scale.of(numbers, self.form, (videos, length, snippets.x.shape[2]), latent)
        samples = noise.view(members, -1, rows, latent)
        generation = Generation(
            snippets, sums, weights, decoder, numbers, scale, samples.shape[1], self._buffers
        )
        units = layer(snippets.x, weight, bias, self._buffers, "attention", relu=True)
        attention = attention_score(units, weights, like.dtype)  # (E, n)
        made = generation.run(attention, samples, share * numbers.cvae_weight)
        loss = (numbers.cvae_weight * share).squeeze(1) * made.loss
        return Stage({"cvae": loss, "kl": made.kl}, made.gradients)

    def _of(self, like: Tensor) -> Numbers:
        if self._numbers is None or self._numbers.r.dtype != like.dtype:
            self._numbers = Numbers.of(self._settings, self._r, like)
        return self._numbers

    def _smooth(self, length: int, like: Tensor) -> Tensor:
        if length not in self._smoothing:
            self._smoothing[length] = gaussian_matrix(length, self.form.guide_sigma, like.device, like.dtype)
        return self._smoothing[length]

    def _first_layers(self, weights: Weights, front: int, flat: Tensor, decoder: Decoder | None) -> Tensor:
        """Side by side (E, n, …): the attention's hidden units before ReLU; the TCAM; b·x; zeros up to
        ``front``; g = Wᵀ(b − x); the encoder's first layer but for λ. Without the decoder b is 0 and the last
        two are left out."""
        attention, classifier = weights["attention.hidden.weight"], weights["classifier.output.weight"]
        members, hidden, d = attention.shape
        last = hidden + classifier.shape[1]
        wide = decoder.hidden.shape[1] if decoder is not None else 0
        matrix = self._buffers.get("first.weights", (members, front + 2 * wide, d), flat.dtype)
        bias = self._buffers.get("first.bias", (members, front + 2 * wide), flat.dtype)
        matrix[:, :hidden], bias[:, :hidden] = attention, weights["attention.hidden.bias"]
        matrix[:, hidden:last], bias[:, hidden:front] = classifier, 0
        matrix[:, last:front] = 0
        if decoder is not None:
            matrix[:, front : front + wide], bias[:, front : front + wide] = -decoder.last.mT, decoder.pull
            matrix[:, front + wide :] = weights["cvae.encode_x.weight"][..., :-1]
            bias[:, front + wide :] = weights["cvae.encode_x.bias"]
            matrix[:, last] = decoder.bias
        return layer(flat, matrix, bias, self._buffers, "first")

    def _first_gradients(
        self, weights: Weights, flat: Tensor, first: Tensor, by_score: Tensor, by_tcam: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of attention and classifier but for the latter's bias, from those by the attention's
        score (E, n) and the TCAM (E, n, C + 1), and Σx (E, d).

        ``first`` (E, n, front) is made into what multiplies x: b·x into ones, for the sum.
        """
        output = weights["attention.output.weight"]  # (E, 1, hidden)
        hidden, classes, kept = output.shape[2], by_tcam.shape[2], output.dtype
        units, by = first[..., :hidden], by_score.to(first.dtype).unsqueeze(2)
        of_output = product(by.mT, units).to(kept)  # (E, 1, hidden)
        # The gradient by a unit is by_score times its output weight, which can as well multiply the sum.
        masked(by.expand(units.shape), units, out=units)
        last = hidden + classes
        first[..., hidden:last] = by_tcam
        first[..., last] = 1
        of_bias = over_snippets(units, kept) * output.squeeze(1)  # (E, hidden)
        of_first = outer_with_features(first, flat, kept, self._buffers)  # (E, front, d)
        gradients = {
            "attention.hidden.weight": of_first[:, :hidden] * output.mT,
            "attention.hidden.bias": of_bias,
            "attention.output.weight": of_output,
            "attention.output.bias": by_score.sum(dim=1, keepdim=True),
            "classifier.output.weight": of_first[:, hidden:last],
        }
        return gradients, of_first[:, last]
