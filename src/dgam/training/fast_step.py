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

import torch
from torch import Tensor

from dgam.core.config import LossSettings
from dgam.model.convolution import by_output, gather, spread
from dgam.model.losses import gaussian_matrix
from dgam.training.fast_attention import aims_of, discriminate, first_layer, top_down
from dgam.training.fast_cvae import Generation
from dgam.training.fast_decoder import Decoder
from dgam.training.fast_prior import Scale, Snippets, reconstruct
from dgam.training.layers import layer
from dgam.training.means import Means
from dgam.training.members import Numbers, Weights, outer_with_features, product
from dgam.training.parameters import Parameters
from dgam.training.prepared import Prepared

_ALIGNED = 16  # matrix units work in tiles; a width that fills them takes less time than a smaller one


class FastStep:
    """Both stages' losses and gradients.

    ``settings`` and ``r`` are each member's own; the settings must agree in :data:`members.FORM` and in
    whether gamma1 is 0. Products are in the dtype of the features, losses and gradients in that of the
    weights. The buffers in ``means`` may be shared by steps that take turns.
    """

    drawn_in = torch.float32

    def __init__(self, settings: Sequence[LossSettings], r: Sequence[float], means: Means) -> None:
        self.form = settings[0]
        self._settings, self._r = settings, r
        self._means = means
        self._numbers: Numbers | None = None
        self._smoothing: dict[int, Tensor] = {}
        self._shared: tuple[Snippets, Tensor, Decoder] | None = None

    def attention(
        self,
        parameters: Parameters,
        prepared: Prepared,
        labels: Tensor,
        share: Tensor,
        noise: Tensor | None,
    ) -> dict[str, Tensor]:
        """Stage (a), equation 16: its terms, each (E,). Its gradients go into those of ``parameters``.

        ``prepared`` x (E, B, T, d), ``labels`` (E, B, C), ``share`` (E, 1) of the warm-up, ``noise``
        (E, L, B, T, latent), None without the generative part.
        """
        members, videos, length, d = prepared.x.shape
        rows = videos * length
        weights, rounded = parameters.weights, parameters.rounded(prepared.x.dtype)
        like = weights["attention.hidden.weight"]
        numbers = self._of(like)
        hidden, classes = like.shape[1], weights["classifier.output.weight"].shape[1]
        taps = hidden * (like.shape[2] // d)  # kernel·hidden: what each neighbour adds to hidden units
        last = taps + classes
        front = -(-(last + 1) // _ALIGNED) * _ALIGNED
        flat = prepared.x.view(members, rows, d)
        buffers, beside = self._means.buffers, self._means.beside
        with beside():
            aims = aims_of(labels, self.form)
            squares = None if noise is None else prepared.squares()
            decoder = None if noise is None else Decoder.of(weights, rounded, buffers)
        first = self._first_layers(rounded, front, flat, noise is not None)  # (E, n, front + 2·cvae hidden)
        beside.join()
        with beside():
            tcam = first[..., taps:last].to(like.dtype).view(members, videos, length, classes)
            smoothing = self._smooth(length, like)
            above = top_down(tcam, labels, smoothing)
        units = gather(first[..., :taps].view(members, videos, length, -1, hidden))
        attention = self._attend(units.view(members, rows, hidden), weights, rounded)  # (E, n)
        with beside():
            found = discriminate(
                attention.view(members, videos, length),
                tcam,
                weights.get("classifier.output.bias"),
                labels,
                aims,
                above,
                smoothing,
                numbers,
                self.form,
            )
            terms, by_attention = dict(found.terms), found.by_attention.view(members, rows)
            total = numbers.foreground.squeeze(1) * terms["fg"] + numbers.alpha.squeeze(1) * terms["bg"]
            total += numbers.gamma2.squeeze(1) * terms["guide"]
        snippets = None
        if noise is not None and decoder is not None and squares is not None:
            latent, seam = noise.shape[-1], front + decoder.hidden.shape[1]
            snippets = Snippets(
                x=flat,
                squares=squares,
                crossed=first[..., last].to(like.dtype),
                gap=first[..., front:seam],
                entry=first[..., seam:],
            )
            scale = Scale.of(numbers, self.form, (videos, length, d), latent)
            samples = noise.view(members, -1, rows, latent)
            terms["re"], by_re = reconstruct(
                attention, samples, snippets, weights, decoder, numbers, scale, self._means
            )
            weight = numbers.gamma1 * share  # (E, 1)
        beside.join()
        if snippets is not None:
            total += weight.squeeze(1) * terms["re"]
            by_attention = by_attention + weight * by_re
        terms |= {"total": total, "attention": attention.mean(dim=1)}
        by_score = by_attention * attention * (1 - attention)  # (E, n), before the sigmoid
        sums = self._first_gradients(parameters, flat, first[..., :front], by_score, found.by_tcam)
        if "classifier.output.bias" in weights:
            parameters.gradients["classifier.output.bias"].copy_(found.by_bias)
        if snippets is not None and decoder is not None:
            self._shared = snippets, sums, decoder
        return terms

    def cvae(self, parameters: Parameters, share: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Stage (b), equation 10, on the batch that :meth:`attention` had last; attention is computed anew
        from ``parameters``, whose CVAE must still be as it was then. As there, terms are returned and
        gradients set."""
        assert self._shared is not None, "stage (b) follows stage (a)"
        (snippets, sums, decoder), self._shared = self._shared, None
        weights = parameters.weights
        rounded = parameters.rounded(snippets.x.dtype, ["attention"])
        numbers = self._of(sums)
        members, _, videos, length, latent = noise.shape
        rows, d = videos * length, snippets.x.shape[2]
        scale = Scale.of(numbers, self.form, (videos, length, d), latent)
        samples = noise.view(members, -1, rows, latent)
        generation = Generation(
            snippets,
            sums,
            weights,
            rounded,
            parameters.gradients,
            decoder,
            numbers,
            scale,
            samples.shape[1],
            self._means,
        )
        taps = layer(snippets.x, *first_layer(rounded, d), self._means, "attention")  # (E, n, kernel·hidden)
        hidden = weights["attention.hidden.weight"].shape[1]
        units = gather(taps.view(members, videos, length, -1, hidden)).view(members, rows, hidden)
        attention = self._attend(units, weights, rounded)  # (E, n)
        self._means.beside.join()  # noise may be drawn there
        made = generation.run(attention, samples, share * numbers.cvae_weight)
        parameters.multiply("cvae", made.factor)
        return {"cvae": (numbers.cvae_weight * share).squeeze(1) * made.loss, "kl": made.kl}

    def _attend(self, units: Tensor, weights: Weights, rounded: Weights) -> Tensor:
        """λ (E, n) of the attention's hidden units before ReLU, which is applied in place."""
        return self._means.passes.attend(
            units, rounded["attention.output.weight"], weights["attention.output.bias"]
        )

    def _of(self, like: Tensor) -> Numbers:
        if self._numbers is None or self._numbers.r.dtype != like.dtype:
            self._numbers = Numbers.of(self._settings, self._r, like)
        return self._numbers

    def _smooth(self, length: int, like: Tensor) -> Tensor:
        if length not in self._smoothing:
            self._smoothing[length] = gaussian_matrix(length, self.form.guide_sigma, like.device, like.dtype)
        return self._smoothing[length]

    def _first_layers(self, rounded: Weights, front: int, flat: Tensor, generative: bool) -> Tensor:
        """Side by side (E, n, …): every tap of the attention's hidden units before ReLU; the TCAM; b·x; zeros
        up to ``front``; g = Wᵀ(b − x); the encoder's first layer but for λ. Without the generative part b is
        0 and the last two are left out."""
        attention, attention_bias = first_layer(rounded, flat.shape[2])
        classifier = rounded["classifier.output.weight"]
        last, b = rounded["cvae.decode_x.weight"], rounded["cvae.decode_x.bias"]  # (E, d, m), (E, d)
        members, hidden, d = attention.shape
        end, wide = hidden + classifier.shape[1], last.shape[2] if generative else 0
        matrix = self._means.buffers.get("first.weights", (members, front + 2 * wide, d), flat.dtype)
        bias = self._means.buffers.get("first.bias", (members, front + 2 * wide), flat.dtype)
        matrix[:, :hidden], bias[:, :hidden] = attention, attention_bias
        matrix[:, hidden:end], bias[:, hidden:front] = classifier, 0
        matrix[:, end:front] = 0
        if generative:
            matrix[:, end] = b
            torch.neg(last.mT, out=matrix[:, front : front + wide])
            bias[:, front : front + wide] = product(last.mT, b.unsqueeze(2)).squeeze(2)
            matrix[:, front + wide :] = rounded["cvae.encode_x.weight"][..., :-1]
            bias[:, front + wide :] = rounded["cvae.encode_x.bias"]
        return layer(flat, matrix, bias, self._means, "first")

    def _first_gradients(
        self, parameters: Parameters, flat: Tensor, first: Tensor, by_score: Tensor, by_tcam: Tensor
    ) -> Tensor:
        """Gradients of attention and classifier but for the latter's bias, from those by the attention's
        score (E, n) and the TCAM (E, B, T, C + 1). Returns Σx (E, d).

        ``first`` (E, n, front) is made into what multiplies x: b·x into ones, for the sum.
        """
        output, gradients = parameters.weights["attention.output.weight"], parameters.gradients  # (E, 1, m)
        hidden, (members, videos, length, classes) = output.shape[2], by_tcam.shape
        kernel = gradients["attention.hidden.weight"].shape[2] // flat.shape[2]
        end, middle = kernel * hidden, kernel // 2 * hidden
        gradients["attention.output.bias"].copy_(by_score.sum(dim=1, keepdim=True))
        # The gradient by a unit is by_score times its output weight, which can as well multiply the sums.
        of_output, of_bias = gradients["attention.output.weight"], gradients["attention.hidden.bias"]
        units = first[..., middle : middle + hidden]
        self._means.passes.units_gradient(units, by_score, of_output.squeeze(1), of_bias)
        of_bias.mul_(output.squeeze(1))
        spread(first[..., :end].view(members, videos, length, kernel, hidden))
        last = end + classes
        first[..., end:last] = by_tcam.view(members, -1, classes)  # (E, n, C + 1)
        first[..., last] = 1
        of_first = outer_with_features(first, flat, self._means.buffers)  # (E, front, d)
        of_hidden = by_output(of_first[:, :end], hidden)  # (E, hidden, kernel·d)
        torch.mul(of_hidden, output.mT, out=gradients["attention.hidden.weight"])
        gradients["classifier.output.weight"].copy_(of_first[:, end:last])
        return of_first[:, last].to(output.dtype)
