"""The training step on a GPU, by ``dgam.kernels``: what ``fast_step`` computes, in few launches.

A step of one model is little work for a GPU, so that time goes into the way from one small operation to the
next. Here a block of snippets goes through all layers of the CVAE in one kernel; products with x and nothing
else are left to the GPU's library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgam.core.config import LossSettings
from dgam.kernels.first import Packed, attend, by_units, pack, spread
from dgam.kernels.last import last_layer, tell, tell_cvae
from dgam.kernels.losses import discriminate, guides, put_bias
from dgam.kernels.numbers import numbers_of
from dgam.kernels.posterior import SLOTS, backward, forward
from dgam.kernels.prior import reconstruct, width
from dgam.kernels.sums import Places, multiply, weigh
from dgam.model.losses import gaussian_taps
from dgam.training.fast_prior import Scale
from dgam.training.layers import layer
from dgam.training.means import Means
from dgam.training.members import Numbers, outer_with_features, product
from dgam.training.parameters import Parameters
from dgam.training.prepared import Prepared

_OWN = ("foreground", "alpha", "beta", "gamma1", "gamma2", "cvae_weight", "r")
_ALIGNED = 16  # matrix units work in tiles; a width that fills them takes less time than a smaller one


class GpuStep:
    """Both stages' losses and gradients, as ``FastStep`` gives them, for what ``steps.step_for`` says."""

    drawn_in = torch.bfloat16

    def __init__(self, settings: Sequence[LossSettings], r: Sequence[float], means: Means) -> None:
        self._settings, self._r, self._means = settings, r, means
        self._form = settings[0]
        self._numbers: dict[tuple[int, int, int], Tensor] = {}  # by a batch's B, T and d
        self._taps: Tensor | None = None
        self._places: Places | None = None
        self._shared: _Shared | None = None
        self._kept: tuple[Tensor, ...] = ()  # what may be read beside when a function has returned

    def attention(
        self,
        parameters: Parameters,
        prepared: Prepared,
        labels: Tensor,
        share: Tensor,
        noise: Tensor | None,
    ) -> dict[str, Tensor]:
        """Stage (a), see ``FastStep.attention``."""
        assert noise is not None, "the kernels have no step without the generative part"
        members, videos, length, d = prepared.x.shape
        rows, dtype = videos * length, prepared.x.dtype
        beside, buffers = self._means.beside, self._means.buffers
        weights, gradients = parameters.weights, parameters.gradients
        labels = labels.contiguous()  # those of a batch are cut from an epoch's
        numbers = self._of((videos, length, d), noise.shape[-1], share)
        units, actions = weights["attention.hidden.weight"].shape[1], labels.shape[2]
        hidden = weights["cvae.decode_z.weight"].shape[1]
        last = units + actions + 1  # columns of x's products: units, the TCAM, here what becomes 1, then b·x
        front = -(-(last + 2) // _ALIGNED) * _ALIGNED
        flat = prepared.x.view(members, rows, d)
        rounded = parameters.rounded(dtype, ["cvae"])
        with beside():
            gram = product(rounded["cvae.decode_x.weight"].mT, rounded["cvae.decode_x.weight"])
        packed = pack(weights, numbers, front, dtype)
        first = layer(flat, packed.matrix, packed.bias, self._means, "first")  # (E, n, front + 2·hidden)
        beside.join()
        tcam, gap = first[..., units:last], first[..., front : front + hidden]
        with beside():
            above = guides(tcam, labels, length)
        attention = attend(first[..., :units], weights, biased=True)  # (E, n)
        with beside():
            found = discriminate(
                tcam,
                attention,
                weights.get("classifier.output.bias"),
                labels,
                above,
                self._smoothing(share),
                numbers,
                detach=self._form.guide_detach,
                mean=self._form.multilabel == "mean",
            )
        by_features, distances = reconstruct(
            noise.view(members, rows, -1),
            attention,
            gap,
            first[..., last + 1],
            gram,
            packed,
            weights,
            rounded,
        )
        beside.join()
        with beside():
            bias, snippet = weights["cvae.decode_x.bias"], self._snippet(videos, length)
            squares = prepared.squares()
            terms = tell(found, distances, squares, bias, numbers, share, rows, snippet)
            if "classifier.output.bias" in gradients:
                put_bias(found, gradients["classifier.output.bias"])
        by_units(
            first[..., :units],
            attention,
            found.by_attention,
            by_features,
            numbers,
            share,
            2 * snippet,
            weights,
            gradients,
        )
        of_first = outer_with_features(first[..., :front], flat, buffers)  # (E, front, d)
        beside.join()
        sums = spread(of_first, weights, gradients)
        entry = first[..., front + hidden :]
        self._shared = _Shared(flat, squares, gap, entry, sums, gram, packed, (videos, length))
        return terms

    def cvae(self, parameters: Parameters, share: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Stage (b), see ``FastStep.cvae``."""
        assert self._shared is not None, "stage (b) follows stage (a)"
        shared, self._shared = self._shared, None
        beside, buffers = self._means.beside, self._means.buffers
        weights, gradients = parameters.weights, parameters.gradients
        (members, rows, d), latent = shared.x.shape, noise.shape[-1]
        numbers = self._of((*shared.shape, d), latent, share)
        rounded = parameters.rounded(shared.x.dtype, ["attention"])
        hidden = rounded["attention.hidden.weight"]
        units = buffers.get("attention", (members, rows, hidden.shape[1]), hidden.dtype)
        product(shared.x, hidden.mT, units)
        attention = attend(units, weights, biased=False)  # (E, n)
        wide = width(shared.gap.shape[2], latent)
        work = buffers.get("work", (SLOTS, members, rows, wide), shared.x.dtype)
        beyond = buffers.get("beyond", (members, rows, 2 * wide), shared.x.dtype)
        beside.join()  # noise may be drawn there
        samples, packed = noise.view(members, rows, latent), shared.packed
        made = forward(shared.entry, attention, samples, numbers, packed, weights, rounded, work)
        backward(
            shared.gap, attention, samples, numbers, packed, rounded, shared.gram, made.mean, work, beyond
        )
        places = self._put(parameters)
        with beside():
            squares, sums = multiply(work, beyond, places, numbers, share)
        of_x = outer_with_features(beyond, shared.x, buffers)  # (E, 2·W, d)
        weigh(work, beyond, attention, places, numbers, share)
        beside.join()
        errors = last_layer(
            of_x, squares, made.mean, sums, shared.sums, rows, weights, gradients, numbers, share
        )
        self._kept = errors, made.kl, shared.squares
        with beside():
            terms = latent if self._form.reduction == "element" else 1
            return tell_cvae(
                errors, made.kl, shared.squares, numbers, share, rows, terms, self._snippet(*shared.shape)
            )

    def _of(self, shape: tuple[int, int, int], latent: int, like: Tensor) -> Tensor:
        """The members' numbers for batches of B, T and d."""
        if shape not in self._numbers:
            own = Numbers.of(self._settings, self._r, like)
            scale = Scale.of(own, self._form, shape, latent)
            unit = 2 * scale.sharpness * scale.snippet  # (E, 1)
            self._numbers[shape] = numbers_of(
                {
                    **{name: getattr(own, name) for name in _OWN},
                    "foreground_offset": own.offsets[..., 0],
                    "background_offset": own.offsets[..., 1],
                    "sharpness": scale.sharpness,
                    "unit": unit,
                    "ratio": own.beta * scale.snippet / scale.terms / unit,
                }
            )
        return self._numbers[shape]

    def _snippet(self, videos: int, length: int) -> float:
        return 1 / videos if self._form.reduction == "sum" else 1 / (videos * length)

    def _smoothing(self, like: Tensor) -> Tensor:
        if self._taps is None:
            self._taps = gaussian_taps(self._form.guide_sigma).to(like.device, like.dtype)
        return self._taps

    def _put(self, parameters: Parameters) -> Places:
        if self._places is None or self._places.gradients is not parameters.flat_gradients:
            self._places = Places.of(parameters.gradients, parameters.flat_gradients)
        return self._places


@dataclass(frozen=True)
class _Shared:
    """What stage (a) leaves for stage (b): x (E, n, d), Σ‖x‖² (E, 1), g and the encoder's first layer but for
    λ (E, n, hidden), Σx (E, d), WᵀW, the packed weights, B and T."""

    x: Tensor
    squares: Tensor
    gap: Tensor
    entry: Tensor
    sums: Tensor
    gram: Tensor
    packed: Packed
    shape: tuple[int, int]
